"""The official Python client: ``openai_python.py sync|async``, a plan on standard input, outcomes on standard output."""

import asyncio
import json
import sys
from typing import Any

import openai

HELLO: list[Any] = [{"role": "user", "content": "hi"}]


def failure(error: openai.APIError, partial: str) -> dict[str, Any]:
    seen = {"error": type(error).__name__, "status": getattr(error, "status_code", None), "code": error.code}
    return {**seen, "partial": partial} if partial else seen


async def _items(stream: Any) -> Any:
    """Yield from what either kind of client returns."""
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


async def _done(result: Any) -> Any:
    return await result if hasattr(result, "__await__") else result


class Operations:
    """What is done with the client; ``shown``: the part of a stream that came, should it break."""

    def __init__(self, client: Any, model: str) -> None:
        self.client, self.model, self.shown = client, model, ""

    async def chat(self) -> Any:
        return (
            (await _done(self.client.chat.completions.create(model=self.model, messages=HELLO, max_tokens=26)))
            .choices[0]
            .message.content
        )

    async def chat_stream(self) -> str:
        stream = await _done(self.client.chat.completions.create(model=self.model, messages=HELLO, max_tokens=26, stream=True))
        async for chunk in _items(stream):
            self.shown += chunk.choices[0].delta.content or ""
        return self.shown

    async def completion(self) -> Any:
        return (await _done(self.client.completions.create(model=self.model, prompt="hi", max_tokens=26))).choices[0].text

    async def completion_stream(self) -> str:
        async for chunk in _items(
            await _done(self.client.completions.create(model=self.model, prompt="hi", max_tokens=26, stream=True))
        ):
            self.shown += chunk.choices[0].text
        return self.shown

    async def embedding(self) -> Any:
        return (await _done(self.client.embeddings.create(model=self.model, input="hi"))).data[0].embedding

    async def response(self) -> Any:
        return (await _done(self.client.responses.create(model=self.model, input="hi"))).output_text

    async def response_stream(self) -> str:
        async for event in _items(await _done(self.client.responses.create(model=self.model, input="hi", stream=True))):
            if event.type == "response.output_text.delta":
                self.shown += event.delta
        return self.shown

    async def models(self) -> Any:
        return [model.id async for model in _items(await _done(self.client.models.list()))]

    async def model_shown(self) -> Any:
        return (await _done(self.client.models.retrieve(self.model))).id

    async def headers(self) -> Any:
        raw = await _done(self.client.chat.completions.with_raw_response.create(model=self.model, messages=HELLO, max_tokens=1))
        return {name: raw.headers.get(name) for name in ("content-type", "x-muster-attempts")}


async def main() -> None:
    plan = json.load(sys.stdin)
    make = openai.AsyncOpenAI if sys.argv[1] == "async" else openai.OpenAI
    clients: dict[str, Any] = {}
    for case in plan["cases"]:
        key = case["key"]
        client = clients.setdefault(key, make(base_url=plan["base_url"], api_key=key, max_retries=0, timeout=30))
        operations = Operations(client, case["model"])
        try:
            outcome = {"answer": await getattr(operations, case["operation"])()}
        except openai.APIError as error:
            outcome = failure(error, operations.shown)
        print(json.dumps({"id": case["id"], **outcome}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
