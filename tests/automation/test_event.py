"""Events: cleaned, cut, without secrets, counted; and a handler that never raises."""

import asyncio
from typing import Any

import pytest

from control_api.automation import repository
from control_api.automation.event import Redactor, RunLog, clean
from control_api.automation.supervisor.sink import EventSink
from control_api.kit.database import Database

pytestmark = pytest.mark.anyio


def raw(counter: int, **values: Any) -> dict[str, Any]:
    return {"counter": counter, "event": "runner_on_ok", "created": "2026-11-20T05:00:00+00:00", "stdout": "ok", **values}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3cret", "********"),
        ("a s3cret b s3cret", "a ******** b ********"),
        ('{"x": "q\\"uo\\\\te"}', '{"x": "********"}'),
        ("two wo\n      rds", "two ********"),
        ("it''s", "********"),
        ("AAAAB3NzaC1yc2EAAA", "********"),
        ("git clone https://me:pw@example.org/x", "git clone https://********@example.org/x"),
        ("proxy=http://hf_token@proxy:3128/", "proxy=http://********@proxy:3128/"),
        ("http://user:@proxy and https://:pw@proxy", "http://********@proxy and https://********@proxy"),
        ("http://one/a b@c", "http://one/a b@c"),
        ("http://example.org:80/a@b", "http://example.org:80/a@b"),
        ("nothing", "nothing"),
    ],
)
def test_secrets_are_hidden_however_they_are_written(text: str, shown: str) -> None:
    key = "-----BEGIN KEY-----\nAAAAB3NzaC1yc2EAAA\n-----END KEY-----\n"
    assert Redactor(["s3cret", 'q"uo\\te', "wo rds", "it's", key, ""])(text) == shown


def test_text_is_cut_between_characters_and_says_so() -> None:
    assert clean("a\0b", 10) == "ab"
    assert clean("\ud800", 10) == "?"
    assert clean("üüüüü", 5) == "üü\n… 5 bytes cut"


async def test_handler_is_total_and_what_it_drops_is_counted(database: Database) -> None:
    log = RunLog("job", 1, Redactor([]))
    sink = EventSink(database.telemetry, log)
    strange: list[Any] = [
        raw(1),
        raw(2, event_data="not a dict"),
        {**raw(3), "counter": "x"},
        raw(4, event_data={"host": 7, "res": "text"}, stdout=None),
        raw(5, stdout="\0" * 10 + "\ud800"),
        {"counter": 6},
        None,
        raw(8, event_data={"host": "h", "duration": "slow", "res": []}),
        raw(9),
    ]
    for event in strange:
        assert sink.handle(event) is False
    await sink.drain()
    async with database.telemetry.read() as session:
        stored = await repository.events_after(session, "job", 0, 100)
    assert stored[0].stdout == "ok"
    assert stored[-1].stdout == "ok"
    assert log.expected > len(stored)


async def test_batch_that_was_written_twice_is_stored_once(database: Database) -> None:
    log = RunLog("job", 1, Redactor([]))
    rows = [log.row(raw(number)) for number in range(1, 451)]
    for _ in range(2):
        async with database.telemetry.write() as session:
            await repository.add_events(session, [row for row in rows if row])
    async with database.telemetry.read() as session:
        stored = await repository.events_after(session, "job", 0, 1000)
    assert [event.counter for event in stored] == list(range(1, 451))


async def test_events_from_another_thread_arrive_while_it_goes_on(database: Database) -> None:
    sink = EventSink(database.telemetry, RunLog("job", 1, Redactor([])))

    def produce() -> None:
        for number in range(1, 5001):
            sink.handle(raw(number))

    writing = asyncio.create_task(sink.run())
    await asyncio.to_thread(produce)
    await sink.drain()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await sink.drain()
    async with database.telemetry.read() as session:
        assert len(await repository.events_after(session, "job", 0, 10_000)) == 5000


def test_change_without_a_difference_tells_what_the_task_said() -> None:
    log = RunLog("job", 1, Redactor(["hunter22"]))

    def row(event: str, res: dict[str, object], stdout: str = "") -> dict[str, object]:
        made = log.row({"event": event, "event_data": {"host": "a", "task": "t", "res": res}, "stdout": stdout})
        assert made
        return made

    assert (
        row("runner_on_ok", {"changed": True, "msg": "would install it with hunter22"})["diff"]
        == "would install it with ********"
    )
    assert row("runner_on_ok", {"changed": False, "msg": "all is well"})["diff"] is None
    assert row("runner_on_file_diff", {}, "-a\r\n+b\r\n")["diff"] is None
    assert row("runner_on_ok", {"changed": True, "msg": "said"})["diff"] == "-a\n+b"
    assert row("runner_on_ok", {"changed": True, "msg": ["no", "text"]})["diff"] is None
