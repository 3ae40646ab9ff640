"""What the tests of jobs have in common: a project with small playbooks, hosts on this machine, a worker."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from control_api.fleet.schemas import CredentialCreate
from control_api.kit.database import Database
from control_api.settings import Settings
from tests.automation.site import Site, create_tables, make_project, open_site
from tests.ports import free_port
from tests.postgres import _database_names, postgres_server, postgres_url

__all__ = ["_database_names", "postgres_server", "postgres_url"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project directory with the inventory plugin and some playbooks."""
    return make_project(tmp_path / "project")


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A directory with a short path, as sockets need one."""
    directory = Path(tempfile.mkdtemp(prefix="muster-", dir="/dev/shm"))
    yield directory
    shutil.rmtree(directory, onexc=_unless_gone)


def _unless_gone(_remove: object, _path: str, error: BaseException) -> None:
    """Pass over what is gone already: the supervisor of a run outlives its job's end, and takes its folder away then."""
    if not isinstance(error, FileNotFoundError):
        raise error


@pytest.fixture
def settings(tmp_path: Path, project: Path, run_dir: Path) -> Settings:
    """Settings on SQLite with a lease that is over soon."""
    return Settings(
        state_dir=tmp_path / "state",
        cache_dir=tmp_path / "cache",
        project_dir=project,
        run_dir=run_dir,
        job_cancel_grace_s=3,
        lease_renew_s=0.5,
        lease_term_s=8,
        lease_kill_s=12,
        lease_reusable_s=13,
    )


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Database]:
    """Both stores with all tables, on each kind of database."""
    if request.param == "sqlite":
        urls = [f"sqlite+aiosqlite:///{tmp_path / name}" for name in ("control.db", "telemetry.db")]
    else:
        urls = [request.getfixturevalue("postgres_url")] * 2
    opened = Database.open(*urls)
    await create_tables(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def site(settings: Settings, anyio_backend: str) -> AsyncIterator[Site]:
    """A site on SQLite with the services of jobs, an HTTP client, and no worker yet."""
    async with open_site(settings) as opened:
        yield opened


@pytest.fixture
def unused_port() -> int:
    """A TCP port where nobody listens."""
    return free_port()


@pytest.fixture
async def credential(site: Site) -> tuple[str, str, str]:
    """A stored credential: its id, a real private key, and a password with characters that look different in JSON."""
    pair = Ed25519PrivateKey.generate()
    key = pair.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    password = 'pa"ss\\word {{ 1+1 }} \u00fc'
    async with site.database.control.write() as session:
        wanted = CredentialCreate(name="ops", ssh_private_key=key, become_password=password)
        return (await site.fleet.add_credential(session, wanted)).id, key, password
