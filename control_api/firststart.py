"""What a control API makes at its first start, and checks at every other."""

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import SecretStr
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access import bootstrap
from control_api.access import repository as access_repository
from control_api.access.api_keys import api_key_row
from control_api.access.schemas import ApiKeyCreate, Scope
from control_api.access.tokens import Signer
from control_api.errors import StartupError
from control_api.fleet.acceptance import LOCAL
from control_api.fleet.repository import hosts_by_reference
from control_api.fleet.schemas import HostCreate
from control_api.fleet.service import FleetService
from control_api.keys import Keys, given_keys, write_private
from control_api.kit import revision
from control_api.kit.database import Database
from control_api.kit.secretbox import SecretBox, new_token, token_hash
from control_api.settings import DASHBOARD_KEY_FILE, LOCAL_KEY_FILE, SETUP_LINK_FILE, Settings
from control_api.state_dir import make_state_dir

log = structlog.get_logger()

LOCAL_HOST = "local"


@dataclass(frozen=True)
class Identity:
    """What makes this store this store."""

    store_id: str
    signer: Signer


async def prepare(settings: Settings, database: Database, keys: Keys) -> Identity:
    """Check the keys and return the identity; make them at the first start. Raises ``StartupError`` for a wrong key."""
    make_state_dir(settings)
    async with database.control.write() as session:
        await bootstrap.check_key(session, keys.routing)
        await bootstrap.check_key(session, keys.credentials)
        return Identity(await bootstrap.store_id(session), await bootstrap.signer(session, keys.credentials))


async def await_key(database: Database, box: SecretBox, timeout_s: float = 120.0) -> None:
    """Check a key, waiting for the control API to have made the store. Raises ``StartupError`` for a wrong key.

    For routers, which must hold the key and may write nothing.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        async with database.control.read() as session:
            if await bootstrap.verify_key(session, box):
                return
        if time.monotonic() > deadline:
            raise StartupError("The store has not been used yet: is the control API running?", code="store_not_prepared")
        await asyncio.sleep(0.3)


async def check_given(settings: Settings) -> None:
    """Raise ``StartupError`` if these settings hold a key that a current store was not made with."""
    database = Database.open(settings.control_url, settings.telemetry_url)
    try:
        async with database.control.read() as session:
            for box in given_keys(settings):
                await bootstrap.verify_key(session, box)
    finally:
        await database.close()


async def let_in(settings: Settings, database: Database) -> None:
    """Make the ways in: given keys, the first admin's link, and keys for this user's own processes. API only."""
    async with database.control.write() as session:
        await _given_key(session, "BOOTSTRAP", settings.bootstrap_api_key, Scope.ADMIN)
        await _given_key(session, "DASHBOARD", settings.dashboard_api_key, Scope.READ)
        await _setup_link(session, settings)
        if not settings.database_url:
            await _key_file(session, settings.state_dir / LOCAL_KEY_FILE, "local operator", [Scope.ADMIN])
            await _key_file(session, settings.state_dir / DASHBOARD_KEY_FILE, "dashboard", [Scope.READ])


async def _given_key(session: AsyncSession, whose: str, given: SecretStr | None, scope: Scope) -> None:
    wanted = ApiKeyCreate(name=whose.lower(), scopes=[scope])
    await bootstrap.given_key(session, f"MUSTER_{whose}_API_KEY", given.get_secret_value() if given else None, wanted)


async def _setup_link(session: AsyncSession, settings: Settings) -> None:
    path = settings.state_dir / SETUP_LINK_FILE
    if await access_repository.count_users(session):
        path.unlink(missing_ok=True)
        return
    token = await bootstrap.setup_token(session)
    if token is None:
        return
    link = f"{settings.public_dashboard_url}/setup?token={token}"
    write_private(path, link + "\n")
    log.info("setup.first_admin", link_in=str(path), valid_s=3600)


async def _key_file(session: AsyncSession, path: Path, name: str, scopes: list[Scope]) -> None:
    """Keep an API key in a file that only this user can read, so that processes on this machine need no set-up."""
    known = path.read_text().strip() if path.exists() else ""
    if known and await access_repository.find_api_key(session, token_hash(known)):
        return
    secret = new_token("mk")
    session.add(api_key_row(secret, ApiKeyCreate(name=name, scopes=scopes)))
    await session.flush()
    await revision.bump(session, revision.ROUTES)
    write_private(path, secret + "\n")


def dashboard_keys(settings: Settings) -> set[str]:
    """Return the hashes of the keys that dashboards show, as settings or the first start gave them."""
    given = settings.dashboard_api_key.get_secret_value() if settings.dashboard_api_key else ""
    path = settings.state_dir / DASHBOARD_KEY_FILE
    kept = path.read_text().strip() if path.exists() else ""
    return {token_hash(key) for key in (given, kept) if key}


async def local_host(settings: Settings, database: Database, fleet: FleetService) -> None:
    """Make this machine a host, for ``muster up --local-node``: no root, no SSH, no systemd."""
    async with database.control.write() as session:
        for known in await hosts_by_reference(session, [LOCAL_HOST]):
            if known.connection == LOCAL:
                # The state outlives an installation, whose Python may be gone with it.
                known.python = sys.executable
                session.add(known)
            return
        host = HostCreate(
            name=LOCAL_HOST,
            address="127.0.0.1",
            connection=LOCAL,
            become=False,
            python=sys.executable,
            variables={"muster_privileged": False, "gpu_host_require_gpu": False, "node_service_allow_cpu": True},
        )
        await fleet.store_host(session, host, accepted_by="muster up")
