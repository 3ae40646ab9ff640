"""The playbooks that may be started through the API: a fixed list, and what each means for its hosts."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from control_api.automation.gate import VariableGate
from control_api.automation.variables import VariableRules
from control_api.errors import BadInput, NotFound
from control_api.fleet.states import HostState
from control_api.kit import ownyaml


@dataclass(frozen=True)
class Playbook:
    """A playbook that may be started.

    Parameters
    ----------
    locks_hosts: no other locking playbook runs on its hosts meanwhile.
    unlocks_at: name of the play from which on its hosts are free for others: it and what follows only talks to the API.
    leaves: the state that a host is in when it went well; None: the playbook says nothing about that.
    speaks_for_caller: what it holds drained, or resumes, is held by whoever asked for the job, and outlives it.
    """

    name: str
    locks_hosts: bool = True
    leaves: HostState | None = None
    unlocks_at: str | None = None
    speaks_for_caller: bool = False


KNOWN = (
    Playbook("site.yml", leaves=HostState.PROVISIONED, unlocks_at="Distribute models"),
    Playbook("provision.yml", leaves=HostState.PROVISIONED),
    Playbook("deploy_node.yml", leaves=HostState.PROVISIONED),
    Playbook("converge.yml", leaves=HostState.PROVISIONED),
    Playbook("upgrade.yml", leaves=HostState.PROVISIONED),
    Playbook("repair.yml", leaves=HostState.PROVISIONED),
    Playbook("decommission.yml", leaves=HostState.DECOMMISSIONED),
    Playbook("distribute_models.yml", locks_hosts=False),
    Playbook("verify.yml", locks_hosts=False),
    Playbook("drain.yml", locks_hosts=False, speaks_for_caller=True),
    Playbook("resume.yml", locks_hosts=False, speaks_for_caller=True),
)


# Tags of what runs, or does not, whichever are asked for.
_WHATEVER_IS_CHOSEN = {"always", "never"}


class PlaybookCatalogue:
    """Those known playbooks that the project really has, and the variables that may be given to them.

    Parameters
    ----------
    project_dir: where ``playbooks/`` is.
    known: the fixed list.
    """

    def __init__(self, project_dir: Path, known: Iterable[Playbook] = KNOWN) -> None:
        directory = project_dir / "playbooks"
        self._playbooks = {playbook.name: playbook for playbook in known if (directory / playbook.name).is_file()}
        self.gate = VariableGate(VariableRules.load(project_dir))
        self.tags = _tags(project_dir)

    @property
    def names(self) -> list[str]:
        """The names of the playbooks that may be started."""
        return sorted(self._playbooks)

    def find(self, name: str) -> Playbook | None:
        """Return a playbook, or None."""
        return self._playbooks.get(name)

    def leaves(self, name: str) -> HostState | None:
        """Return the state that a playbook leaves its hosts in; None also if there is no such playbook."""
        playbook = self.find(name)
        return playbook.leaves if playbook else None

    def check_tags(self, tags: Iterable[str]) -> None:
        """Raise ``BadInput`` if no role has one of these tags: a run without a task would look as if all were well."""
        if unknown := sorted(set(tags) - self.tags):
            known = ", ".join(sorted(self.tags)) or "none"
            raise BadInput(f"tags: no role has {', '.join(unknown)}.", code="unknown_tag", hint=f"Known: {known}.")

    def get(self, name: str) -> Playbook:
        """Return a playbook. Raises ``NotFound`` naming those that exist."""
        if not (playbook := self.find(name)):
            raise NotFound(f"No playbook {name!r}.", code="unknown_playbook", hint=f"Known: {', '.join(self.names) or 'none'}.")
        return playbook


def _tags(project_dir: Path) -> frozenset[str]:
    """Return the tags of the parts that roles have, as their ``tasks/main.yml`` names them."""
    mains = [ownyaml.read_file(path) or [] for path in project_dir.glob("roles/*/tasks/main.yml")]
    return frozenset(tag for tasks in mains for task in tasks for tag in task.get("tags", [])) - _WHATEVER_IS_CHOSEN
