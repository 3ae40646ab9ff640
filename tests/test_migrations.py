"""The schema: migrations and tables agree on both databases, upwards and downwards."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from pydantic import SecretStr
from typer.testing import CliRunner

from control_api.cli import app
from control_api.errors import StartupError
from control_api.keys import NAMES
from control_api.kit.secretbox import SecretBox
from control_api.migrations import runner
from control_api.serve import run_worker, serve_api, serve_router
from control_api.settings import Settings
from tests.running import on_postgres, running_api, settings_for

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of an empty store on each database."""
    if request.param == "sqlite":
        return settings_for(tmp_path)
    url = request.getfixturevalue("postgres_url")
    return settings_for(tmp_path, **on_postgres(url))


async def test_the_tables_are_what_the_migrations_make(settings: Settings) -> None:
    await runner.upgrade(settings)
    for schema in runner.schemas(settings):
        command.check(schema.config())


async def test_up_down_up(settings: Settings) -> None:
    await runner.upgrade(settings)
    for schema in runner.schemas(settings):
        command.downgrade(schema.config(), "base")
        engine = sa.create_engine(schema.sync_url)
        left = [name for name in sa.inspect(engine).get_table_names() if not name.startswith("alembic_version")]
        engine.dispose()
        if schema.name == "telemetry" or not settings.database_url:
            assert left == []
    assert not runner.is_current(settings)
    await runner.upgrade(settings)
    assert runner.is_current(settings)


async def test_hosts_that_were_there_before_hosts_had_to_be_accepted_go_on(settings: Settings) -> None:
    settings.state_dir.mkdir(exist_ok=True)
    schema = runner.schemas(settings)[0]
    command.upgrade(schema.config(), "c3a1f0d94e72")
    engine = sa.create_engine(schema.sync_url)
    values = {"id": "1", "name": "gpu-01", "address": "10.0.0.1", "port": 22, "become": True, "connection": "ssh"}
    values |= {"state": "provisioned", "tags": [], "variables": {}, "created_at": datetime(2026, 11, 20, tzinfo=UTC)}
    hosts = sa.Table("host", sa.MetaData(), autoload_with=engine)
    with engine.begin() as connection:
        connection.execute(hosts.insert().values(values))
    engine.dispose()
    async with running_api(settings) as api:
        host = (await api.http.get("/v0/hosts/gpu-01")).json()
    assert (host["acceptance"], host["accepted_by"]) == ("accepted", "migration")
    assert host["accepted_at"] == host["created_at"]


async def test_the_api_runs_on_both_databases(settings: Settings) -> None:
    async with running_api(settings) as api:
        assert (await api.http.get("/readyz")).json()["status"] == "ready"


async def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    await runner.upgrade(settings)
    engine = sa.create_engine(runner.schemas(settings)[0].sync_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version_control SET version_num = 'ffffffffffff'"))
    engine.dispose()
    with pytest.raises(StartupError) as refused:
        await runner.upgrade(settings)
    assert refused.value.code == "store_newer"


STARTS = {
    "api": lambda settings: serve_api(settings, with_worker=False, local_node=False),
    "router": serve_router,
    "worker": run_worker,
}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A store that an API has made."""
    settings = settings_for(tmp_path_factory.mktemp("used"))

    async def make() -> None:
        async with running_api(settings):
            pass

    asyncio.run(make())
    return settings


@pytest.mark.parametrize(("process", "name"), [(p, n) for p in STARTS for n in NAMES if (p, n) != ("router", "credentials")])
async def test_no_process_starts_with_a_key_that_the_store_was_not_made_with(used: Settings, process: str, name: str) -> None:
    keys = json.loads((used.state_dir / "keys.json").read_text()) | {name: SecretBox.new_key()}
    settings = used.model_copy(update={f"{key}_key": SecretStr(value) for key, value in keys.items()})
    with pytest.raises(StartupError) as refused:
        await asyncio.wait_for(STARTS[process](settings), 20)
    assert (refused.value.code, name in refused.value.message) == ("wrong_key", True)


@pytest.mark.parametrize("command", ["status", "migrate"])
def test_the_store_is_not_handled_with_the_keys_of_another(used: Settings, command: str) -> None:
    foreign = {f"MUSTER_{name.upper()}_KEY": SecretBox.new_key() for name in NAMES}
    done = CliRunner().invoke(app, ["store", command], env={"MUSTER_STATE_DIR": str(used.state_dir), **foreign})
    assert (done.exit_code, "does not fit this store" in done.output) == (1, True), done.output
