"""Making the order of an attempt: what the playbook needs to know, and what it logs in with."""

import math
import os
from pathlib import Path
from typing import Protocol

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.principal import Principal, check_scope
from control_api.access.schemas import Scope
from control_api.automation import repository
from control_api.automation.models import Job
from control_api.automation.order import LeaseTimes, RunOrder, Secrets
from control_api.automation.playbooks import PlaybookCatalogue
from control_api.errors import StartupError
from control_api.fleet import acceptance
from control_api.fleet.service import FleetService
from control_api.settings import Settings

# The token of a job outlives its time limit by what it may take to end it.
TOKEN_MARGIN_S = 600
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it, and its owner checked
# What a run is told of its job, and of the settings, as they stand.
_OF_JOB = {"attempt", "playbook", "tags", "check", "purpose", "fence", "timeout_s", "task_timeout_s", "extra_vars"}
_OF_SETTINGS = {"project_dir", "site_dir", "state_dir", "cache_dir"}


class TokenIssuer(Protocol):
    """What makes job tokens, and knows what rights whoever asked for a job has now: the access service."""

    async def asker(self, session: AsyncSession, asker: str | None) -> Principal:
        """Return whoever asks for a job. Raises ``Unauthenticated`` if they are gone."""

    def issue_job_token(
        self, job_id: str, attempt: int, host_ids: list[str], ttl_s: int, *, speaks_for: str | None = None
    ) -> str:
        """Return a token for one attempt of one job on these hosts; ``speaks_for``: in whose name it holds nodes."""


class OrderDesk:
    """Makes orders from claimed jobs."""

    def __init__(self, settings: Settings, access: TokenIssuer, fleet: FleetService, playbooks: PlaybookCatalogue) -> None:
        self._settings = settings
        self._access = access
        self._fleet = fleet
        self._playbooks = playbooks
        self._run_root = run_root(settings)

    async def make(self, session: AsyncSession, job: Job) -> RunOrder:
        """Return the order for the present attempt of a job. Raises if whoever asked for it may not do so any more."""
        asker = await self._access.asker(session, job.asker)
        check_scope(asker, Scope.OPERATE)
        self._playbooks.gate.rules.check(job.extra_vars, "extra_vars", scopes=asker.scopes)
        settings = self._settings
        playbook = self._playbooks.get(job.playbook)
        host_ids = [host.host_id for host in (await repository.hosts_of(session, [job.id]))[job.id]]
        inventory = await self._fleet.inventory(session, host_ids)
        return RunOrder(
            **job.model_dump(include=_OF_JOB),
            **settings.model_dump(include=_OF_SETTINGS),
            job_id=job.id,
            leaves=playbook.leaves,
            unlocks_at=playbook.unlocks_at,
            cancel_grace_s=settings.job_cancel_grace_s,
            inventory=inventory,
            secrets=await self._secrets(session, job, host_ids),
            control_url=settings.control_url,
            telemetry_url=settings.telemetry_url,
            api_url=settings.public_api_url,
            run_dir=self._run_root / f"{job.id}-{job.attempt}",
            lease=LeaseTimes(
                renew_s=settings.lease_renew_s,
                term_s=settings.lease_term_s,
                kill_s=settings.lease_kill_s,
                reusable_s=lease_s(settings),
            ),
        )

    async def checked(self, order: RunOrder) -> RunOrder:
        """Return an order whose variables may be given to its hosts as both are now. Raises ``BadInput`` if they may not.

        Names of hosts are looked up here, so no transaction may be open.
        """
        beyond = await self._playbooks.gate.run_starts(order.extra_vars, order.inventory.hosts)
        return order.model_copy(update={"not_on_controller": beyond})

    async def _secrets(self, session: AsyncSession, job: Job, host_ids: list[str]) -> Secrets:
        asked_by = job.requested_by if self._playbooks.get(job.playbook).speaks_for_caller else None
        ttl_s = job.timeout_s + TOKEN_MARGIN_S
        token = self._access.issue_job_token(job.id, job.attempt, host_ids, ttl_s, speaks_for=asked_by)
        secrets = Secrets(token=token)
        hosts = await self._fleet.resolve_hosts(session, host_ids)
        # Whatever queued the job: nothing of this goes to a host that no admin accepted.
        acceptance.check_accepted(hosts)
        for host in hosts:
            if not host.credential_id:
                continue
            key, password = await self._fleet.credential_secrets(session, host.credential_id)
            if key:
                secrets.ssh_keys[host.credential_id] = key
                secrets.credential_of[host.name] = host.credential_id
            if password:
                secrets.become_passwords[host.name] = password
        return secrets


def lease_s(settings: Settings) -> int:
    """Return how long a lease lasts after a renewal, in whole seconds, which is what the database's clock counts in."""
    return math.ceil(settings.lease_reusable_s)


def run_root(settings: Settings) -> Path:
    """Return the directory for run directories: as set, else on tmpfs, else in the state directory. Made if need be.

    Raises ``StartupError`` if it is somebody else's: secrets go there.
    """
    root = settings.run_dir
    if not root and _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK):
        root = _SHARED_MEMORY / f"muster-{os.getuid()}"
    root = root or settings.state_dir / "runs"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = root.lstat()
    if found.st_uid != os.getuid() or root.is_symlink() or found.st_mode & 0o077:
        raise StartupError(
            f"{root} is not a directory that only this user can read.", code="run_dir_unsafe", hint="Set MUSTER_RUN_DIR."
        )
    return root
