"""The schema: migrations and tables agree on both databases, upwards and downwards."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from control_api.errors import StartupError
from control_api.migrations import runner
from control_api.serve import serve_api
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


async def test_a_store_made_with_another_key_is_refused(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    async with running_api(settings):
        pass
    (settings.state_dir / "keys.json").unlink()
    with pytest.raises(StartupError) as refused:
        await serve_api(settings, with_worker=False, local_node=False)
    assert refused.value.code == "wrong_key"
