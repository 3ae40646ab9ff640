"""Finished requests reach the store, in batches; a store that is away costs records at most."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control_api.kit.database import Store
from control_api.router import history as module
from control_api.router.history import PENDING_LIMIT, History
from control_api.router.record import RequestRecord
from control_api.telemetry import repository
from control_api.telemetry.models import RequestHistory
from tests.router.fleet import CHAT, MODEL, Fleet, chat, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(migrated_store: Path, tmp_path: Path, anyio_backend: Any) -> AsyncIterator[Store]:
    """A migrated telemetry store."""
    shutil.copytree(migrated_store, tmp_path / "state")
    made = Store.open(f"sqlite+aiosqlite:///{tmp_path / 'state/telemetry.db'}")
    yield made
    await made.close()


def record(**changes: Any) -> RequestRecord:
    facts: dict[str, Any] = {"path": CHAT, "model": MODEL, "stream": False, "node_id": "n", "status": 200, "error_code": None}
    times = {"attempts": 1, "queue_s": 0.0, "first_byte_s": 0.1, "duration_s": 0.2}
    return RequestRecord(request_id="r", caller_id="key:k", **{**facts, **times, **changes})


async def stored(store: Store) -> list[RequestHistory]:
    async with store.read() as session:
        rows, _ = await repository.page_requests(session, repository.RequestFilter(), cursor=None, limit=500)
    return rows


async def test_an_answered_request_is_in_the_store(fleet: Fleet, store: Store) -> None:
    node = await fleet.node()
    async with History.open(store) as history:
        fleet.sinks.append(history)
        async with fleet.router() as http:
            answer = await http.post(CHAT, json=chat())

    [row] = await stored(store)
    assert (row.request_id, row.model, row.node_id, row.status) == (answer.headers["x-request-id"], MODEL, node.id, 200)
    assert (row.caller_id, row.prompt_tokens, row.completion_tokens) == ("key:mk_inference", 1, 3)


async def test_content_is_stored_compressed(store: Store) -> None:
    async with History.open(store) as history:
        history.record(record(request_content=b"a" * 10_000, response_content=b"b" * 10_000))

    async with store.read() as session:
        row = await repository.get_request(session, (await stored(store))[0].id or 0)
    assert row is not None
    assert len(row.request_content or b"") < 200


async def test_a_store_that_is_away_loses_nothing_that_fits(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "state/telemetry.db"
    history = History(store)
    history.record(record())
    async with store.write() as session:
        await (await session.connection()).exec_driver_sql("ALTER TABLE request_history RENAME TO gone")
    await history.flush()
    async with store.write() as session:
        await (await session.connection()).exec_driver_sql("ALTER TABLE gone RENAME TO request_history")
    await history.flush()

    assert path.exists()
    assert len(await stored(store)) == 1
    assert history.dropped == 0


async def test_what_does_not_fit_is_dropped_and_counted(store: Store) -> None:
    history = History(store)
    for _ in range(PENDING_LIMIT + 3):
        history.record(record())

    assert history.dropped == 3


async def test_large_contents_are_bounded_by_their_size(store: Store) -> None:
    history = History(store)
    content = bytes(1 << 20)
    for _ in range(100):
        history.record(record(request_content=content))
    await history.flush()

    kept = module.PENDING_CONTENT_LIMIT_BYTES >> 20
    assert len(await stored(store)) == kept
    assert history.dropped == 100 - kept


async def test_a_running_history_writes_by_itself(store: Store) -> None:
    async with History.open(store) as history:
        history.record(record())
        await eventually(lambda: not history._pending)
        assert len(await stored(store)) == 1
