"""Drift and plans."""

from collections.abc import Sequence

from control_api.client.http import Http, part
from control_api.client.schemas import HostDriftOut, JobOut, PlanOut


class Drift:
    """``/v0/drift``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> list[HostDriftOut]:
        """Return what the latest checks found, by host."""
        return [host async for host in self._http.items(HostDriftOut, "/v0/drift")]

    async def check(self, hosts: Sequence[str] | None = None) -> JobOut:
        """Start a check of hosts by name or id; None: of all in service."""
        return await self._http.post(JobOut, "/v0/drift", {"hosts": None if hosts is None else [*hosts]})

    async def apply(self, hosts: Sequence[str] | None = None, tags: Sequence[str] = ()) -> JobOut:
        """Put right those of the hosts that had drifted at their latest check. Raises ApiError ``nothing_drifted``."""
        return await self._http.post(JobOut, "/v0/drift/apply", {"hosts": None if hosts is None else [*hosts], "tags": [*tags]})


class Plans:
    """``/v0/plan`` and ``/v0/apply``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def create(self, hosts: Sequence[str] | None = None) -> JobOut:
        """Start working out what ``site.yml`` would change; None: on all hosts in service."""
        return await self._http.post(JobOut, "/v0/plan", {"hosts": None if hosts is None else [*hosts]})

    async def get(self, job_id: str) -> PlanOut:
        """Return a plan by the job that makes it; complete when it has a hash."""
        return await self._http.get(PlanOut, f"/v0/plan/{part(job_id)}")

    async def apply(self, plan_hash: str) -> JobOut:
        """Run what was planned. Raises ApiError ``plan_outdated`` if something has moved since."""
        return await self._http.post(JobOut, "/v0/apply", {"plan_hash": plan_hash})
