"""Where variables enter: on a host, with a job, at the start of its run. Each time the rights of whoever asks now count."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from control_api.access.principal import Principal
from control_api.automation.variables import VariableRules
from control_api.errors import BadInput
from control_api.fleet.acceptance import LOCAL
from control_api.fleet.hooks import HostVariables
from control_api.kit.addresses import own_of


class Target(Protocol):
    """A host of a job, from the store or from an inventory."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def address(self) -> str: ...  # noqa: D102
    @property
    def connection(self) -> str: ...  # noqa: D102
    @property
    def variables(self) -> dict[str, Any]: ...  # noqa: D102


class VariableGate:
    """Lets through what is the caller's to set, and what the machine takes.

    The machine that runs the jobs takes a short list, whoever asks: what reaches further there would be a way from the API to
    the keys of all hosts. Addresses are looked at each time, as names may have come to mean another machine; the plays
    themselves look once more at the machine that they have reached (``playbooks/tasks/lock.yml``).
    """

    def __init__(self, rules: VariableRules) -> None:
        self.rules = rules

    async def host_changes(self, change: HostVariables) -> None:
        """Check the variables of a host that is made or changed. Raises ``BadInput`` or ``Forbidden`` naming the variable."""
        is_own = change.connection == LOCAL
        if change.by is None:
            self.rules.check_stored(change.wanted, "variables", own_host=is_own)
            return
        self.rules.check(change.wanted, scopes=change.by.scopes, before=change.before)
        asked = {name: value for name, value in change.wanted.items() if change.moves or value != change.before.get(name)}
        beyond = self.rules.beyond_controller(asked, own_host=is_own)
        if is_own and (lost := sorted((self.rules.own_host.keys() & change.before.keys()) - change.wanted.keys())):
            raise BadInput(
                f"variables: {', '.join(lost)} would be taken away from this machine's own host.",
                code="controller_variable",
                hint="Send along what is stored: `muster up` has set it.",
                details=[{"field": f"variables.{name}", "message": "is not to be taken away"} for name in lost],
            )
        if beyond and (is_own or change.address in (await own_of([change.address]) if change.own is None else change.own)):
            raise _not_on_controller(change.name, "variables", beyond)

    async def job_asked(self, extra_vars: Mapping[str, Any], hosts: Collection[Target], by: Principal) -> None:
        """Check what a job is asked for with, and what is stored of its hosts. Raises ``BadInput`` or ``Forbidden``."""
        self.rules.check(extra_vars, "extra_vars", scopes=by.scopes)
        await self.run_starts(extra_vars, hosts)

    async def run_starts(self, extra_vars: Mapping[str, Any], hosts: Collection[Target]) -> dict[str, list[str]]:
        """Check by the rules and addresses of now what a run is given. Raises ``BadInput`` naming host and variable.

        Returns by host the variables that it may not have if it turns out to be this machine after all.
        """
        self.rules.check_stored(extra_vars, "extra_vars")
        for refusal in (await self.refused(extra_vars, hosts)).values():
            raise refusal
        found = {host.name: self._beyond(extra_vars, host) for host in hosts}
        return {name: beyond for name, beyond in found.items() if beyond}

    async def refused(self, extra_vars: Mapping[str, Any], hosts: Collection[Target]) -> dict[str, BadInput]:
        """Return why hosts may not be given what is stored of them and what a job would add, by name."""
        refused = {}
        suspects = []
        for host in hosts:
            try:
                self.rules.check_stored(host.variables, f"{host.name}: variables", own_host=host.connection == LOCAL)
            except BadInput as error:
                refused[host.name] = error
            else:
                suspects += [host] if self._beyond(extra_vars, host) else []
        own = await own_of(host.address for host in suspects if host.connection != LOCAL)
        for host in suspects:
            if host.connection == LOCAL or host.address in own:
                refused[host.name] = _not_on_controller(host.name, host.name, self._beyond(extra_vars, host))
        return refused

    def _beyond(self, extra_vars: Mapping[str, Any], host: Target) -> list[str]:
        stored = self.rules.beyond_controller(host.variables, own_host=host.connection == LOCAL)
        return sorted({*self.rules.beyond_controller(extra_vars), *stored})


def _not_on_controller(host: str, field: str, names: list[str]) -> BadInput:
    return BadInput(
        f"{field}: {', '.join(names)}: {host} is the machine that runs the jobs, which takes few options from the API.",
        code="controller_variable",
        hint="Put it into host_vars of MUSTER_SITE_DIR. The reference of role variables says what the controller takes.",
        details=[{"field": f"{field}.{name}", "message": "is not for the machine that runs the jobs"} for name in names],
    )
