"""The router's role on PostgreSQL: enough to serve, and nothing else."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError
from typer.testing import CliRunner

from control_api.cli import app
from control_api.fleet.states import ModelState
from control_api.kit.database import Store
from control_api.kit.secretbox import SecretBox
from control_api.router.breaker import BreakerState
from control_api.router.history import History
from control_api.router.report import StoreReport
from control_api.router.repository import StoreSource
from control_api.telemetry.breakers import Breakers
from tests.postgres import PostgresServer
from tests.router.test_history import record, stored
from tests.router.test_repository import MODEL, given, model_row, node_row, report, write

pytestmark = pytest.mark.anyio

ROLE = "muster-router"


@pytest.fixture
def owner_url(postgres_server: PostgresServer, postgres_url: str, tmp_path: Path) -> str:
    """A store that `muster store migrate` made, with a role for routers."""
    create = f'DO $$ BEGIN CREATE ROLE "{ROLE}" LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$'
    postgres_server.run("psql", "-h", str(postgres_server.directory), "-U", "postgres", "-c", create)
    environment = {"MUSTER_DATABASE_URL": postgres_url, "MUSTER_STATE_DIR": str(tmp_path)}
    done = CliRunner().invoke(app, ["store", "migrate", "--router-role", ROLE], env=environment)
    assert done.exit_code == 0, done.output
    return postgres_url


@pytest.fixture
async def owner(owner_url: str, anyio_backend: Any) -> AsyncIterator[Store]:
    """The store as the control API sees it."""
    made = Store.open(owner_url)
    yield made
    await made.close()


@pytest.fixture
async def routers(owner_url: str, anyio_backend: Any) -> AsyncIterator[Store]:
    """The store as a router sees it."""
    made = Store.open(owner_url.replace("postgres@", f"{ROLE}@"))
    yield made
    await made.close()


async def test_it_can_read_routes_and_add_history(owner: Store, routers: Store) -> None:
    box = SecretBox(SecretBox.new_key(), name="routing")
    await write(owner, node_row(box, "http://192.0.2.1:8090"), model_row())
    await write(owner, report(ModelState.READY), given())

    table = await StoreSource(routers, box).load(None)
    async with History.open(routers) as history:
        history.record(record())

    assert table
    assert (list(table.models), table.nodes["node-1"].inference_key) == ([MODEL], "node-key")
    assert [row.request_id for row in await stored(owner)] == ["r"]


async def test_it_can_say_which_nodes_are_out(owner: Store, routers: Store) -> None:
    report = StoreReport(routers)
    await report.report([BreakerState("node-1", "open", "refused")])

    assert list(await Breakers(owner)(["node-1"])) == ["node-1"]
    await report.report([])
    assert not await Breakers(owner)(["node-1"])


async def test_it_can_change_nothing_and_read_nothing_else(routers: Store) -> None:
    rights = {right: await tables_with(routers, right) for right in ("SELECT", "INSERT", "UPDATE", "REFERENCES")}

    plumbing = {"alembic_version_control", "alembic_version_telemetry", "revision", "router_breaker", "key_check"}
    callers = {"api_key", "signing_key", "user", "user_session", "job", "job_host"}
    routes = {"node_model", "model", "node", "assignment", "provider"}
    assert rights["SELECT"] == plumbing | callers | routes
    assert (rights["INSERT"], rights["UPDATE"], rights["REFERENCES"]) == ({"request_history", "router_breaker"}, set(), set())
    for statement in (
        "SELECT private_encrypted FROM signing_key",
        "SELECT token_hash FROM node",
        "SELECT id_hash FROM user_session",
        'SELECT password_hash FROM "user"',
        "SELECT extra_vars FROM job",
        "SELECT value FROM setting",
        "DELETE FROM request_history",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"):
            await execute(routers, statement)


async def tables_with(store: Store, right: str) -> set[str]:
    """Return the tables of which the role has a right on any column."""
    query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    return {name for (name,) in await execute(store, f"{query} AND has_any_column_privilege(oid, '{right}')")}


async def execute(store: Store, statement: str) -> list[Any]:
    async with store.read() as session:
        done = await (await session.connection()).execute(sa.text(statement))
        return list(done.all()) if done.returns_rows else []
