"""Requests and tokens per minute of a key."""

import json

import openai
import pytest

from control_api.router.auth import Caller
from control_api.router.errors import RateLimited
from control_api.router.limits import Limits
from tests.router.fleet import CHAT, KEY, MODEL, Fleet, bearer, chat
from tests.router.nodes import Exchange
from tests.router.test_balance import Clock

pytestmark = pytest.mark.anyio


async def test_a_key_that_has_used_up_its_requests_waits(fleet: Fleet) -> None:
    node = await fleet.node()
    fleet.add_key("mk_few", "inference", requests_per_minute=2)
    async with fleet.router() as http:
        answers = [await http.post(CHAT, json=chat(), headers=bearer("mk_few")) for _ in range(3)]
        other = await http.post(CHAT, json=chat(), headers=bearer(KEY))
        with pytest.raises(openai.RateLimitError) as refused:
            await fleet.openai("mk_few").chat.completions.create(model=MODEL, messages=[])

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"2"}
    assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert 20_000 < int(answers[2].headers["retry-after-ms"]) <= 30_000
    assert refused.value.type == "rate_limit_error"
    assert (other.status_code, "x-ratelimit-limit-requests" in other.headers) == (200, False)
    assert len(node.requests) == 3


async def test_a_key_and_its_tokens_use_up_the_same_limits(fleet: Fleet) -> None:
    node = await fleet.node()
    limits = {"requests_per_minute": 3, "tokens_per_minute": 1000}
    fleet.add_key("mk_few", "inference", **limits)
    fleet.add_parent("api_key:few", bucket="key:mk_few", **limits)
    tokens = [fleet.signer.token(parent="api_key:few") for _ in range(3)]
    async with fleet.router() as http:
        answers = [await http.post(CHAT, json=chat(), headers=bearer(caller)) for caller in (tokens[0], "mk_few", *tokens)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer.headers["x-ratelimit-remaining-tokens"] for answer in answers][:3] == ["1000", "996", "992"]
    assert len(node.requests) == 3


async def test_tokens_count_once_they_are_known(fleet: Fleet) -> None:
    await fleet.node()
    fleet.add_key("mk_few", "inference", tokens_per_minute=7)
    async with fleet.router() as http:
        answers = [await http.post(CHAT, json=chat(), headers=bearer("mk_few")) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429], "four tokens each"
    assert [answer.headers["x-ratelimit-remaining-tokens"] for answer in answers] == ["7", "3", "0"]
    assert "tokens" in answers[2].json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("prompt", "completion"), [(900_000_000_000, 1), (1, 1 << 24), (10**30, 10**30)])
async def test_what_no_model_can_have_used_counts_nothing(fleet: Fleet, prompt: int, completion: int, *, stream: bool) -> None:
    """A node's mistake, or its lie, must not shut a key out for years; nor does a client see what it did not ask for."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    async def boasts(exchange: Exchange) -> None:
        whole = json.dumps({"choices": [], "usage": usage}).encode()
        if not exchange.body.get("stream"):
            await exchange.answer(200, whole)
            return
        await exchange.begin_stream()
        await exchange.event("Hi")
        await exchange.chunk(b"data: " + whole + b"\n\n")
        await exchange.end_stream()

    await fleet.node(boasts)
    fleet.add_key("mk_few", "inference", tokens_per_minute=1000)
    async with fleet.router() as http:
        answers = [await http.post(CHAT, json=chat(stream=stream), headers=bearer("mk_few")) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.headers["x-ratelimit-remaining-tokens"] for answer in answers] == ["1000", "1000"]
    assert [record.prompt_tokens for record in fleet.records] == [None, None]
    assert not stream or "usage" not in answers[0].text


async def test_the_largest_context_of_all_counts(fleet: Fleet) -> None:
    async def reads(exchange: Exchange) -> None:
        await exchange.answer(200, json.dumps({"usage": {"prompt_tokens": 1 << 24, "completion_tokens": 0}}).encode())

    await fleet.node(reads)
    fleet.add_key("mk_few", "inference", tokens_per_minute=1 << 20)
    async with fleet.router() as http:
        answers = [await http.post(CHAT, json=chat(), headers=bearer("mk_few")) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]
    assert int(answers[1].headers["retry-after"]) <= 15 * 60, "it had a minute's tokens and used sixteen"


def test_limits_fill_up_evenly() -> None:
    clock = Clock()
    limits = Limits(clock)
    caller = Caller("key:k", frozenset(), None, None, bucket="key:k", requests_per_minute=60)
    for _ in range(60):
        limits.admit(caller)
    with pytest.raises(RateLimited):
        limits.admit(caller)
    clock.now += 1.0

    assert b"x-ratelimit-remaining-requests: 0" in limits.admit(caller)
    with pytest.raises(RateLimited):
        limits.admit(caller)


def test_a_changed_limit_is_in_force_at_once() -> None:
    limits = Limits(Clock())
    limits.admit(Caller("key:k", frozenset(), None, None, bucket="key:k", requests_per_minute=1))

    assert b"limit-requests: 5" in limits.admit(Caller("key:k", frozenset(), None, None, bucket="key:k", requests_per_minute=5))
