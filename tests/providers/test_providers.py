"""Cloud providers: their keys, their models, and what becomes of requests for them."""

import asyncio
from typing import Any

import httpx2
import openai
import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse

from control_api.providers import repository
from control_api.providers.schemas import ProviderName
from tests.providers.conftest import Records, running
from tests.providers.lookalikes import PROVIDER_KEY
from tests.router.fleet import CHAT
from tests.running import KEY, Api, until

pytestmark = pytest.mark.anyio

FIRST_MODELS = {"openai": "openai:gpt-5", "anthropic": "anthropic:claude-sonnet-4-5", "google": "google:gemini-2.5-flash"}


async def give_key(api: Api, router: httpx2.AsyncClient, name: str, base_url: str, **more: Any) -> list[str]:
    """Give a provider a key and wait until the router knows its models."""
    put = await api.http.put(f"/v0/providers/{name}", json={"api_key": PROVIDER_KEY, "base_url": base_url, **more})
    assert put.status_code == 200, put.text
    models: list[str] = put.json()["models"]

    async def listed() -> bool:
        found = await router.get("/v1/models")
        return found.status_code == 200 and {model["id"] for model in found.json()["data"]} >= set(models)

    await until(listed, what="the models to be listed")
    return models


def ask(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


@pytest.mark.parametrize("name", FIRST_MODELS)
async def test_a_key_opens_the_models_of_a_provider(api: Api, router: httpx2.AsyncClient, records: Records, name: str) -> None:
    model = FIRST_MODELS[name]
    async with running(name) as (provider, base_url):
        models = await give_key(api, router, name, base_url)
        async with openai.AsyncOpenAI(base_url=f"{router.base_url}/v1", api_key=KEY, max_retries=0) as client:
            answer = await client.chat.completions.create(**ask(model))
            stream = await client.chat.completions.create(**ask(model, stream=True))
            text = "".join([chunk.choices[0].delta.content async for chunk in stream])
            shown = await client.models.retrieve(model)

    assert model in models
    assert (answer.choices[0].message.content, text) == ("Hello!", "Hello!")
    assert [path for path, _ in provider.asked] == [f"{provider.prefix}/chat/completions"] * 2
    assert [body["model"] for _, body in provider.asked] == [model.partition(":")[2]] * 2
    assert shown.owned_by == name
    assert [(record.model, record.node_id, record.completion_tokens) for record in records] == [(model, name, 3)] * 2


async def test_a_key_is_never_shown_again(api: Api, router: httpx2.AsyncClient) -> None:
    async with running("openai") as (_, base_url):
        await give_key(api, router, "openai", base_url)
        listed = await api.http.get("/v0/providers")
        async with api.database.control.read() as session:
            kept = await repository.get_provider(session, ProviderName.OPENAI)

    assert kept and PROVIDER_KEY not in kept.key_encrypted
    assert PROVIDER_KEY not in listed.text
    assert [(item["name"], item["models"]) for item in listed.json()["items"]] == [
        ("openai", ["openai:gpt-5", "openai:o4-mini"])
    ]


@pytest.mark.parametrize("name", FIRST_MODELS)
async def test_a_wrong_key_is_refused_at_once(api: Api, name: str) -> None:
    async with running(name) as (_, base_url):
        put = await api.http.put(f"/v0/providers/{name}", json={"api_key": "sk-something-else", "base_url": base_url})

    assert (put.status_code, put.json()["error"]["code"]) == (422, "provider_key_refused")
    assert (await api.http.get("/v0/providers")).json()["items"] == []


async def test_a_provider_that_does_not_answer_needs_its_models_named(api: Api) -> None:
    nobody = {"api_key": PROVIDER_KEY, "base_url": "http://127.0.0.1:9/v1"}
    unnamed = await api.http.put("/v0/providers/openai", json=nobody)
    named = await api.http.put("/v0/providers/openai", json={**nobody, "models": ["gpt-5"]})

    assert (unnamed.status_code, unnamed.json()["error"]["code"]) == (503, "provider_unreachable")
    assert named.json()["models"] == ["openai:gpt-5"]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"base_url": "http://api.example.com/v1"}, "insecure_provider"),
        ({"base_url": "https://api.example.com/v1?x=1"}, "bad_provider_url"),
        ({"api_key": "with space"}, "invalid_request"),
        ({"api_key": "line\r\nbreak-in-key"}, "invalid_request"),
        ({"models": []}, "invalid_request"),
    ],
)
async def test_what_cannot_be_a_provider_is_refused(api: Api, given: dict[str, Any], code: str) -> None:
    put = await api.http.put("/v0/providers/openai", json={"api_key": PROVIDER_KEY, "models": ["gpt-5"], **given})

    assert (put.status_code, put.json()["error"]["code"]) == (422, code)


async def test_without_its_key_its_models_are_gone(api: Api, router: httpx2.AsyncClient) -> None:
    async with running("openai") as (provider, base_url):
        await give_key(api, router, "openai", base_url)
        removed = await api.http.delete("/v0/providers/openai")
        again = await api.http.delete("/v0/providers/openai")

        async def gone() -> httpx2.Response | None:
            answer = await router.post(CHAT, json=ask("openai:gpt-5"))
            return answer if answer.status_code != 200 else None

        answer = await until(gone, what="the model to be gone")

    assert (removed.status_code, again.status_code) == (204, 404)
    assert answer and (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert all(body["model"] == "gpt-5" for _, body in provider.asked)


def broken_stream() -> Response:
    async def pieces() -> Any:
        yield 'data: {"id": "c1", "choices": [{"index": 0, "delta": {"content": "Hel"}}]}\n\n'

    return StreamingResponse(pieces(), media_type="text/event-stream")


class Silence(Response):
    """Never answers."""

    async def __call__(self, *_: Any) -> None:
        await asyncio.Event().wait()


ANSWERS: dict[str, tuple[Response, tuple[int, str, str | None]]] = {
    "our key is refused": (JSONResponse({"error": {"message": "no"}}, 401), (502, "upstream_error", None)),
    "too many requests": (
        JSONResponse({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, 429, {"retry-after": "7"}),
        (429, "rate_limit_exceeded", "7"),
    ),
    "a bad request": (JSONResponse({"error": {"message": "no", "code": "bad_thing"}}, 400), (400, "bad_thing", None)),
    "another shape": (JSONResponse([{"error": {"code": 400, "message": "no"}}], 400), (400, "upstream_error", None)),
    "a redirect": (Response(status_code=302, headers={"location": "/elsewhere"}), (502, "upstream_error", "1")),
    "a failure": (Response("oops", 500), (502, "upstream_error", "1")),
    "silence": (Silence(), (504, "upstream_timeout", "1")),
}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_provider_does_not_answer_nobody_answers(api: Api, router: httpx2.AsyncClient, stream: bool) -> None:
    seen = {}
    async with running("openai") as (provider, base_url):
        await give_key(api, router, "openai", base_url)
        for case, (answer, _) in ANSWERS.items():
            provider.answer = answer
            given = await router.post(CHAT, json=ask("openai:gpt-5", stream=stream))
            seen[case] = (given.status_code, given.json()["error"]["code"], given.headers.get("retry-after"))

    assert seen == {case: expected for case, (_, expected) in ANSWERS.items()}
    assert len(provider.asked) == len(ANSWERS), "each request is sent once"


async def test_a_stream_that_breaks_off_ends_with_an_error(api: Api, router: httpx2.AsyncClient) -> None:
    async with running("openai") as (provider, base_url):
        await give_key(api, router, "openai", base_url)
        provider.answer = broken_stream()
        given = await router.post(CHAT, json=ask("openai:gpt-5", stream=True))

    assert "Hel" in given.text
    assert '"code":"upstream_error"' in given.text
    assert "[DONE]" not in given.text


async def test_responses_are_kept_by_the_provider_that_has_them(api: Api, router: httpx2.AsyncClient) -> None:
    body = {"input": "hi", "previous_response_id": "resp_1"}
    async with running("openai") as (_, openai_url), running("google") as (_, google_url):
        await give_key(api, router, "openai", openai_url)
        await give_key(api, router, "google", google_url)
        kept = await router.post("/v1/responses", json={**body, "model": "openai:gpt-5"})
        missing = await router.post("/v1/responses", json={**body, "model": "google:gemini-2.5-flash"})

    assert (kept.status_code, kept.json()["previous"]) == (200, "resp_1")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_url")
    assert "google does not have /v1/responses" in missing.json()["error"]["message"]


async def test_a_key_of_ours_may_be_kept_from_them(api: Api, router: httpx2.AsyncClient) -> None:
    made = await api.http.post("/v0/api-keys", json={"name": "k", "models": ["openai:o4-mini"]})
    header = {"authorization": f"Bearer {made.json()['key']}"}
    async with running("openai") as (_, base_url):
        await give_key(api, router, "openai", base_url)
        listed = await router.get("/v1/models", headers=header)
        allowed = await router.post(CHAT, json=ask("openai:o4-mini"), headers=header)
        refused = await router.post(CHAT, json=ask("openai:gpt-5"), headers=header)
        pinned = await router.post(CHAT, json=ask("openai:gpt-5"), headers={"x-muster-pin-node": "node-1"})

    assert [model["id"] for model in listed.json()["data"]] == ["openai:o4-mini"]
    assert (allowed.status_code, refused.status_code, pinned.status_code) == (200, 403, 400)
