"""The official client against the real router: it cannot tell it from OpenAI."""

import anyio.to_thread
import openai
import pytest

from tests.router.fleet import CHAT, KEY, MODEL, Fleet, chat
from tests.router.nodes import Exchange, says

pytestmark = pytest.mark.anyio
MESSAGES = [{"role": "user", "content": "hi"}]


async def test_a_chat_is_answered(fleet: Fleet) -> None:
    node = await fleet.node()
    async with fleet.router():
        answer = await fleet.openai().chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)

    assert answer.parse().choices[0].message.content == "Hello!"
    assert answer.headers["x-muster-node"] == node.id
    assert answer.headers["x-muster-attempts"] == "1"
    assert answer.headers["x-muster-queue-ms"] == "0"


async def test_a_chat_is_streamed(fleet: Fleet) -> None:
    await fleet.node()
    async with fleet.router():
        stream = await fleet.openai().chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        parts = [chunk.choices[0].delta.content async for chunk in stream]

    assert "".join(parts) == "Hello!"


async def test_the_sync_client_works(fleet: Fleet) -> None:
    await fleet.node()

    def ask() -> tuple[str, str]:
        client = openai.OpenAI(base_url=fleet.url + "/v1", api_key=KEY, max_retries=0)
        whole = client.chat.completions.create(model=MODEL, messages=MESSAGES)
        stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        return whole.choices[0].message.content, "".join(chunk.choices[0].delta.content for chunk in stream)

    async with fleet.router():
        assert await anyio.to_thread.run_sync(ask) == ("Hello!", "Hello!")


async def test_completions_and_embeddings_are_answered(fleet: Fleet) -> None:
    """The client asks for base64 embeddings by default, so the field must reach the node."""
    node = await fleet.node()
    async with fleet.router():
        completion = await fleet.openai().completions.create(model=MODEL, prompt="hi")
        embedding = await fleet.openai().embeddings.create(model=MODEL, input="hi")

    assert completion.choices[0].text == "Hello!"
    assert embedding.data[0].embedding == [0.25, -0.5]
    assert node.requests[1].body["encoding_format"] == "base64"


async def test_models_are_listed_and_shown(fleet: Fleet) -> None:
    await fleet.node()
    await fleet.node(model="org/repo:1b")
    await fleet.node(model="loading:1b", ready=False, model_state="loading")
    async with fleet.router():
        ids = [model.id async for model in fleet.openai().models.list()]
        shown = await fleet.openai().models.retrieve(MODEL)
        slashed = await fleet.openai().models.retrieve("org/repo:1b")
        with pytest.raises(openai.NotFoundError):
            await fleet.openai().models.retrieve("nobody:1b")
        with pytest.raises(openai.InternalServerError) as loading:
            await fleet.openai().models.retrieve("loading:1b")

    assert ids == ["org/repo:1b", MODEL]
    assert (shown.id, shown.object, shown.created) == (MODEL, "model", 1_700_000_000)
    assert slashed.id == "org/repo:1b"
    assert loading.value.code == "model_loading"


async def test_bytes_reach_the_node_as_they_came(fleet: Fleet) -> None:
    """Unknown fields, odd numbers and white space included; the caller's key is not among them."""
    node = await fleet.node()
    raw = b'{ "x_new": {"deep": [1e400, "\\ud83d\\ude00"]},\n "model": "test:1b", "messages": []}'
    async with fleet.router() as http:
        await http.post(CHAT, content=raw, headers={"content-type": "application/json; charset=utf-8", "x-request-id": "r-1"})

    sent = node.requests[0]
    assert sent.raw == raw
    assert sent.headers["authorization"] == "Bearer node-key"
    assert sent.headers["content-type"] == "application/json; charset=utf-8"
    assert sent.headers["x-request-id"] == "r-1"
    assert sent.headers["accept-encoding"] == "identity"
    assert KEY not in str(sent.headers)


async def test_a_large_body_reaches_the_node_whole(fleet: Fleet) -> None:
    node = await fleet.node()
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat(padding="x" * 3_000_000))

    assert answer.status_code == 200
    assert node.requests[0].body["padding"] == "x" * 3_000_000


async def test_other_answers_of_a_node_are_passed_on(fleet: Fleet) -> None:
    async def limited(exchange: Exchange) -> None:
        await says(429, "rate_limit_exceeded", extra="retry-after: 7\r\n")(exchange)

    await fleet.node(limited)
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat())

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert answer.json()["error"]["message"] == "secret words of node-1"


async def test_a_stream_has_the_headers_that_proxies_need(fleet: Fleet) -> None:
    await fleet.node()
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat(stream=True))

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.text.endswith("data: [DONE]\n\n")
