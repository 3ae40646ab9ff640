"""What a worker tells a supervisor, through a pipe: others can read arguments and environment."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from control_api.automation.states import JobPurpose
from control_api.fleet.schemas import InventoryOut
from control_api.fleet.states import HostState


class LeaseTimes(BaseModel):
    """When a supervisor renews its lease, and what it does when it cannot. Seconds."""

    renew_s: float
    term_s: float
    kill_s: float
    reusable_s: int


class Secrets(BaseModel):
    """What a run logs in with. Never written to disk except on tmpfs, never in arguments, environment or events.

    ``ssh_keys`` by credential id; ``credential_of`` and ``become_passwords`` by host name.
    """

    token: str
    ssh_keys: dict[str, str] = {}
    credential_of: dict[str, str] = {}
    become_passwords: dict[str, str] = {}

    def all(self) -> list[str]:
        """Return every secret, to be hidden in output."""
        return [self.token, *self.ssh_keys.values(), *self.become_passwords.values()]


class RunOrder(BaseModel):
    """One attempt of one job.

    ``not_on_controller``: by host the variables that it may not have if it turns out to be the machine that runs the jobs.
    """

    job_id: str
    attempt: int
    playbook: str
    tags: list[str]
    check: bool
    purpose: JobPurpose
    fence: int
    leaves: HostState | None
    unlocks_at: str | None
    timeout_s: int
    task_timeout_s: int | None
    cancel_grace_s: float
    extra_vars: dict[str, Any]
    not_on_controller: dict[str, list[str]] = {}
    inventory: InventoryOut
    secrets: Secrets
    control_url: str
    telemetry_url: str
    api_url: str
    project_dir: Path
    site_dir: Path | None
    state_dir: Path
    cache_dir: Path
    run_dir: Path
    lease: LeaseTimes
