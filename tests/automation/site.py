"""A small site: everything that jobs need, around a project of the tests' own."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from control_api.access.api_keys import api_key_row
from control_api.access.schemas import ApiKeyCreate
from control_api.access.schemas import Scope as KeyScope
from control_api.access.service import AccessService
from control_api.access.tokens import Signer, new_signing_key
from control_api.automation import check_routes, repository, routes
from control_api.automation.drift import DriftService
from control_api.automation.plans import PlanService
from control_api.automation.playbooks import Playbook, PlaybookCatalogue
from control_api.automation.service import JobService
from control_api.automation.states import JobStatus
from control_api.automation.worker import Worker
from control_api.fleet.hooks import FleetHooks
from control_api.fleet.models import Host
from control_api.fleet.schemas import HostCreate
from control_api.fleet.service import FleetService
from control_api.fleet.states import HostState
from control_api.kit import http
from control_api.kit.database import Database
from control_api.kit.secretbox import SecretBox
from control_api.kit.tables import ControlTable, TelemetryTable
from control_api.kit.tasks import owned_task
from control_api.settings import Settings

REPOSITORY = Path(__file__).parents[2]
PROJECT = Path(__file__).with_name("project")
KEY = "mk_" + "k" * 43
PLAYBOOKS = (
    Playbook("site.yml", leaves=HostState.PROVISIONED),
    Playbook("converge.yml", leaves=HostState.PROVISIONED),
    Playbook("sleep.yml"),
    Playbook("release.yml", leaves=HostState.PROVISIONED, unlocks_at="Talk to the API only"),
    Playbook("stubborn.yml"),
    Playbook("secrets.yml"),
    Playbook("remote.yml"),
    Playbook("root.yml"),
    Playbook("mixed.yml", leaves=HostState.PROVISIONED),
    Playbook("broken.yml"),
    Playbook("many.yml"),
    Playbook("nobody.yml"),
    Playbook("verify.yml", locks_hosts=False),
    Playbook("not_there.yml"),
)


def make_project(directory: Path) -> Path:
    """Copy the tests' playbooks, with this repository's inventory plugin and configuration."""
    shutil.copytree(PROJECT, directory)
    shutil.copytree(REPOSITORY / "inventory", directory / "inventory", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "ansible.cfg", directory / "ansible.cfg")
    return directory


async def create_tables(database: Database) -> None:
    """Create the tables of both stores."""
    for store, base in ((database.control, ControlTable), (database.telemetry, TelemetryTable)):
        async with store.writer.begin() as connection:
            await connection.run_sync(base.metadata.create_all)


async def until[Value](look: Callable[[], Awaitable[Value]], what: str, timeout_s: float = 45) -> Value:
    """Look again and again until there is something true."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not (value := await look()):
        assert asyncio.get_running_loop().time() < deadline, f"waited {timeout_s} s in vain: {what}"
        await asyncio.sleep(0.1)
    return value


@dataclass
class Site:
    """The services of jobs, and a client that asks them over HTTP."""

    settings: Settings
    database: Database
    access: AccessService
    fleet: FleetService
    playbooks: PlaybookCatalogue
    jobs: JobService
    http: httpx2.AsyncClient

    async def add_host(self, name: str, **values: Any) -> Host:
        """Add a host that is this machine, unless told otherwise."""
        here = {"address": "127.0.0.1", "connection": "local", "become": False}
        async with self.database.control.write() as session:
            return await self.fleet.store_host(session, HostCreate(**{"name": name, **here, **values}), accepted_by="tests")

    async def post(self, path: str, body: Any = None, *, status: int = 202) -> dict[str, Any]:
        """Post, expect a status and return the answer."""
        answer = await self.http.post(path, json=body)
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    async def job(self, job_id: str) -> dict[str, Any]:
        """Return a job."""
        return dict((await self.http.get(f"/v0/jobs/{job_id}")).json())

    async def start(self, playbook: str, *hosts: str, **values: Any) -> str:
        """Queue a job and return its id."""
        return str((await self.post("/v0/jobs", {"playbook": playbook, "hosts": hosts, **values}))["id"])

    async def events(self, job_id: str) -> list[dict[str, Any]]:
        """Return all events of a job, page by page."""
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            page = (await self.http.get(f"/v0/jobs/{job_id}/events", params={"after": after, "limit": 50})).json()
            found += page["items"]
            if not page["next_cursor"]:
                return found
            after = page["last_id"]

    async def output(self, job_id: str) -> str:
        """Return what a job has printed so far."""
        return "\n".join(event["stdout"] for event in await self.events(job_id))

    async def ended(self, job_id: str, timeout_s: float = 45) -> dict[str, Any]:
        """Wait until a job has ended and return it."""

        async def look() -> dict[str, Any] | None:
            job = await self.job(job_id)
            return job if JobStatus(job["status"]).is_final else None

        return await until(look, f"the end of job {job_id}", timeout_s)

    async def printed(self, job_id: str, text: str) -> None:
        """Wait until a running job has printed something."""

        async def look() -> bool:
            return text in await self.output(job_id)

        await until(look, f"{text!r} in the output of {job_id}")

    def worker(self, **options: Any) -> Worker:
        """Return a worker of this site."""
        return Worker(self.settings, self.database, self.access, self.fleet, self.playbooks, wake=self.jobs.wake, **options)

    @contextlib.asynccontextmanager
    async def working(self, **options: Any) -> AsyncIterator[Worker]:
        """Run a worker for the length of the block; runs that go on after a failed test are ended."""
        worker = self.worker(**{"stop_jobs": True, **options})
        async with owned_task(worker.run(), name="worker"):
            yield worker


def _services(settings: Settings, database: Database, signer: Signer, box: SecretBox) -> Site:
    access = AccessService(signer, running_job=repository.running_job)
    playbooks = PlaybookCatalogue(settings.project_dir, PLAYBOOKS)
    fleet = FleetService(settings, box, FleetHooks(host_variables=playbooks.gate.host_changes))
    jobs = JobService(settings, fleet, playbooks)
    state = {"settings": settings, "database": database, "access": access, "fleet": fleet, "automation": jobs}
    state |= {"drift": DriftService(jobs), "plans": PlanService(settings, jobs, fleet)}
    transport = httpx2.ASGITransport(_with_state(_application(), state))
    client = httpx2.AsyncClient(transport=transport, base_url="http://muster", headers={"authorization": f"Bearer {KEY}"})
    return Site(settings, database, access, fleet, playbooks, jobs, client)


@contextlib.asynccontextmanager
async def open_site(settings: Settings, *, new: bool = True) -> AsyncIterator[Site]:
    """Open a site with an application that has the routes of jobs; ``new``: with its tables and one admin key."""
    database = Database.open(settings.control_url, settings.telemetry_url)
    box = SecretBox(SecretBox.new_key(), name="credentials")
    pair = new_signing_key(box)
    signer = Signer(pair.kid, box.decrypt(pair.private_encrypted), pair.public_pem)
    if new:
        settings.state_dir.mkdir(parents=True)
        await create_tables(database)
        async with database.control.write() as session:
            session.add(api_key_row(KEY, ApiKeyCreate(name="tests", scopes=[KeyScope.ADMIN])))
    site = _services(settings, database, signer, box)
    async with site.http:
        yield site
    await database.close()


async def _knows(_state: Any, credential: str) -> bool:
    return credential == KEY


def _application() -> FastAPI:
    app = FastAPI()
    app.include_router(routes.router)
    app.include_router(check_routes.router)
    http.install(app, body_limit_bytes=4 << 20, knows=_knows)
    return app


def _with_state(app: FastAPI, state: dict[str, Any]) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return called
