"""Plans: what a run would change, under a hash; applied only while nothing that it was worked out from has moved."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.principal import Principal
from control_api.automation import checks, repository
from control_api.automation.models import Job, Plan
from control_api.automation.schemas import HostsIn, JobCreate, PlanHost, PlanOut
from control_api.automation.service import JobService, describe
from control_api.automation.states import JobPurpose
from control_api.errors import Conflict, NotFound
from control_api.fleet import repository as fleet
from control_api.fleet.models import Node
from control_api.fleet.service import FleetService
from control_api.settings import Settings
from control_api.wheelhouse.manifest import read_manifest

PLAYBOOK = "site.yml"
_PROJECT_PARTS = ("playbooks", "roles", "plugins", "inventory")
_SITE_PARTS = ("group_vars", "host_vars")
# What a node says of its machine that does not change by itself.
_STEADY_FACTS = ("gpus", "cpu", "memory_total", "disk_total", "platform")


class PlanService:
    """Makes plans and applies them."""

    def __init__(self, settings: Settings, jobs: JobService, fleet_service: FleetService) -> None:
        self._settings = settings
        self._jobs = jobs
        self._fleet = fleet_service

    async def create(self, session: AsyncSession, wanted: HostsIn, by: Principal) -> Job:
        """Queue the check run that makes a plan."""
        hosts = await self._jobs.hosts_in_service(session, wanted.hosts)
        job = await self._jobs.create(
            session, JobCreate(playbook=PLAYBOOK, hosts=hosts, check=True), by, purpose=JobPurpose.PLAN
        )
        session.add(Plan(job_id=job.id, basis=await self._basis(session, hosts)))
        return job

    async def get(self, session: AsyncSession, job_id: str) -> PlanOut:
        """Return a plan. Raises ``NotFound``."""
        if not (plan := await session.get(Plan, job_id)):
            raise NotFound(f"No plan {job_id!r}.", code="unknown_plan", hint="`muster plan` makes one.")
        job = await self._jobs.get(session, job_id)
        hosts = [PlanHost.model_validate(host) for host in plan.hosts]
        return PlanOut(job_id=job_id, status=job.status, reason=job.reason, plan_hash=plan.plan_hash, hosts=hosts)

    async def apply(self, session: AsyncSession, plan_hash: str, by: Principal) -> Job:
        """Queue the run that was planned, as this caller's.

        Raises ``Conflict`` saying what moved since, or who has one of the hosts.
        """
        if not (plan := await checks.plan_by_hash(session, plan_hash)):
            raise NotFound("No plan has this hash.", code="unknown_plan", hint="`muster plan` makes one.")
        hosts = [host.host_id for host in (await repository.hosts_of(session, [plan.job_id]))[plan.job_id]]
        if busy := await repository.blockers(session, hosts):
            raise Conflict(f"A host is busy: {describe(busy[0][1])}.", code="host_busy", hint="Plan again after that job.")
        now = await self._basis(session, hosts)
        if moved := sorted(name for name in plan.basis.keys() | now.keys() if plan.basis.get(name) != now.get(name)):
            raise Conflict(
                f"Changed since the plan was made: {', '.join(moved)}.",
                code="plan_outdated",
                hint="Plan again: `muster plan`.",
                details={"moved": moved},
            )
        return await self._jobs.create(session, JobCreate(playbook=PLAYBOOK, hosts=hosts), by, purpose=JobPurpose.APPLY)

    async def _basis(self, session: AsyncSession, host_ids: list[str]) -> dict[str, str]:
        """Return a digest of each thing that a plan for these hosts depends on, by its name for people."""
        basis = await asyncio.to_thread(self._files)
        inventory = await self._fleet.inventory(session, host_ids)
        planned = {host.address for host in inventory.hosts}
        neighbours = {address for addresses in inventory.sites.values() for address in addresses} - planned
        basis["other hosts of the same sites"] = _digest(sorted(neighbours))
        nodes = {node.id: node for node in await fleet.list_nodes(session, [h.node_id for h in inventory.hosts if h.node_id])}
        for host in inventory.hosts:
            # The key is pinned at first contact, which may be the plan's own.
            basis[f"host {host.name}"] = _digest(host.model_dump(mode="json", exclude={"host_key"}))
            if node := nodes.get(host.node_id or ""):
                basis[f"node {host.name}"] = _digest(_facts(node))
                basis[f"models of {host.name}"] = str(node.manifest_revision)
        return basis

    def _files(self) -> dict[str, str]:
        site = self._settings.site_dir
        try:
            wheelhouse = read_manifest(self._settings.cache_dir / "wheelhouse").key
        except (OSError, ValueError, KeyError, TypeError):
            wheelhouse = "none"
        return {
            "playbooks and roles": _tree_digest(self._settings.project_dir, _PROJECT_PARTS),
            "site data": _tree_digest(site, _SITE_PARTS) if site else "none",
            "wheelhouse": wheelhouse,
        }


def _facts(node: Node) -> dict[str, Any]:
    return {"version": node.version, "hardware": {name: node.hardware.get(name) for name in _STEADY_FACTS}}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _tree_digest(root: Path, parts: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for path in _files_of(root, parts):
        digest.update(f"{path.relative_to(root)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files_of(root: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    for part in parts:
        for path in sorted((root / part).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
