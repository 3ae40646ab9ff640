"""``/v1/responses``: passed to engines that have it, refused in clear words otherwise."""

import json

import pytest

from tests.router.fleet import MODEL, Fleet
from tests.router.nodes import Behaviour, Exchange, says

pytestmark = pytest.mark.anyio
PATH = "/v1/responses"
BODY = {"model": MODEL, "input": "hi"}
EVENTS = [
    b'event: response.created\ndata: {"type":"response.created"}\n\n',
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hello"}\n\n',
]
END = b'event: response.completed\ndata: {"response":{"usage":{"input_tokens":2,"output_tokens":5}}}\n\n'


def streams(*events: bytes) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for event in events:
            await exchange.chunk(event)
        await exchange.chunk(b"")

    return behave


async def test_a_response_is_passed_on(fleet: Fleet) -> None:
    async def answers(exchange: Exchange) -> None:
        await exchange.answer(200, json.dumps({"output": [], "usage": {"input_tokens": 2, "output_tokens": 5}}).encode())

    node = await fleet.node(answers)
    async with fleet.router() as http:
        answer = await http.post(PATH, json=BODY)

    assert answer.json()["output"] == []
    assert node.requests[0].path == PATH
    assert [record.completion_tokens for record in fleet.records] == [5]


async def test_its_events_are_untouched(fleet: Fleet) -> None:
    node = await fleet.node(streams(*EVENTS, END))
    async with fleet.router() as http:
        answer = await http.post(PATH, json={**BODY, "stream": True})

    assert answer.content == b"".join(EVENTS) + END
    assert "stream_options" not in node.requests[0].body
    assert [(record.error_code, record.completion_tokens) for record in fleet.records] == [(None, 5)]


async def test_one_that_breaks_off_ends_with_an_error(fleet: Fleet) -> None:
    await fleet.node(streams(*EVENTS))
    async with fleet.router() as http:
        answer = await http.post(PATH, json={**BODY, "stream": True})

    assert b'"code":"upstream_error"' in answer.content


async def test_an_engine_without_it_is_said_so(fleet: Fleet) -> None:
    await fleet.node(says(404, "not_found"))
    async with fleet.router() as http:
        answer = await http.post(PATH, json=BODY)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    assert PATH in answer.json()["error"]["message"]


async def test_earlier_responses_are_not_kept(fleet: Fleet) -> None:
    node = await fleet.node()
    async with fleet.router() as http:
        answer = await http.post(PATH, json={**BODY, "previous_response_id": "resp_1"})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "previous_response_id")
    assert node.requests == []
