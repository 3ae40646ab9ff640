"""What the playground makes of the router's answers."""

from contextlib import aclosing

import httpx2
import pytest

from dashboards.router_client import ChatError, RouterClient

pytestmark = pytest.mark.anyio

CHAT = [{"role": "user", "content": "hi"}]


async def ask(response: httpx2.Response) -> str:
    router = RouterClient("http://router", transport=httpx2.MockTransport(lambda _: response))
    text = ""
    async with aclosing(router.chat("token", "m:1", CHAT)) as pieces:
        async for piece in pieces:
            text += piece.text
    return text


async def test_pieces_make_the_answer() -> None:
    lines = [
        ": keep-alive",
        'data: {"choices": [{"delta": {"role": "assistant"}}]}',
        'data: {"choices": [{"delta": {"content": "Hel"}}]}',
        'data: {"choices": [{"delta": {"content": "lo"}}]}',
        'data: {"choices": [], "usage": {"completion_tokens": 2}}',
        "data: [DONE]",
    ]
    assert await ask(httpx2.Response(200, text="\n\n".join(lines) + "\n\n")) == "Hello"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            '{"error": {"message": "gpt-oss:20b is loading on 2 nodes.", "code": "model_loading"}}',
            "gpt-oss:20b is loading on 2 nodes.",
        ),
        ("<html>", "The router answered 503."),
        ("[]", "The router answered 503."),
    ],
)
async def test_a_refusal_is_said_in_the_routers_words(body: str, said: str) -> None:
    with pytest.raises(ChatError) as caught:
        await ask(httpx2.Response(503, text=body))
    assert str(caught.value) == said


async def test_an_error_in_the_stream_is_an_error() -> None:
    with pytest.raises(ChatError, match="stopped"):
        await ask(httpx2.Response(200, text='data: {"error": {"message": "The node stopped."}}\n\n'))


async def test_what_is_not_json_is_an_error() -> None:
    with pytest.raises(ChatError, match="cannot be read"):
        await ask(httpx2.Response(200, text="data: {oops\n\n"))


async def test_a_router_that_is_away_is_named() -> None:
    router = RouterClient("http://127.0.0.1:9")
    with pytest.raises(ChatError, match=r"127\.0\.0\.1:9 does not answer"):
        await router.models("token")
    await router.aclose()


async def test_models_that_cannot_chat_are_not_offered() -> None:
    models = [{"id": "embed:1", "capabilities": ["embeddings"]}, {"id": "chat:1", "capabilities": ["chat"]}, {"id": "old:1"}]
    answer = httpx2.Response(200, json={"data": models})
    router = RouterClient("http://router", transport=httpx2.MockTransport(lambda _: answer))
    assert await router.models("token") == ["chat:1", "old:1"]


async def test_a_pinned_node_is_named_to_the_router() -> None:
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, text="data: [DONE]\n\n")

    router = RouterClient("http://router", transport=httpx2.MockTransport(handler))
    async with aclosing(router.chat("token", "m:1", CHAT, "node-7")) as pieces:
        assert [piece async for piece in pieces] == []
    assert seen[0].headers["x-muster-pin-node"] == "node-7"
    assert seen[0].headers["authorization"] == "Bearer token"
