"""The router, as the playground uses it: what can be asked, and an answer as it comes."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import httpx2

TIMEOUT = httpx2.Timeout(10.0, read=320.0)


class ChatError(Exception):
    """The router or a node did not answer as asked; the message is for people."""


@dataclass(frozen=True)
class Piece:
    """A piece of an answer: text, or at the end what it took."""

    text: str = ""
    node: str = ""
    completion_tokens: int | None = None


class RouterClient:
    """Asks one router. ``base_url`` is without ``/v1``."""

    def __init__(self, base_url: str, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._client = httpx2.AsyncClient(base_url=self._base_url, timeout=TIMEOUT, transport=transport)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def models(self, token: str) -> list[str]:
        """Return the ids of the models that can chat now. Raises ChatError."""
        try:
            response = await self._client.get("/v1/models", headers=_bearer(token))
        except httpx2.TransportError as error:
            raise ChatError(self._unreachable()) from error
        if response.status_code >= 400:
            raise ChatError(_message(response.content, response.status_code))
        return sorted(str(entry["id"]) for entry in response.json()["data"] if _can_chat(entry))

    async def chat(
        self, token: str, model: str, messages: list[dict[str, str]], pin_node_id: str | None = None
    ) -> AsyncGenerator[Piece]:
        """Yield an answer as it comes. Closing the generator stops the node. Raises ChatError, also half-way."""
        headers = _bearer(token) | ({"x-muster-pin-node": pin_node_id} if pin_node_id else {})
        body = {"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        try:
            async with self._client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
                if response.status_code >= 400:
                    raise ChatError(_message(await response.aread(), response.status_code))
                node = response.headers.get("x-muster-node", "")
                async for line in response.aiter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield _piece(line[6:], node)
        except httpx2.TransportError as error:
            raise ChatError(self._unreachable()) from error

    def _unreachable(self) -> str:
        return f"The router at {self._base_url} does not answer."


def _can_chat(entry: dict[str, Any]) -> bool:
    """Whether a model of the router's list says that it can chat, or says nothing of what it can do."""
    return "chat" in (entry.get("capabilities") or ["chat"])


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _piece(data: str, node: str) -> Piece:
    try:
        event: dict[str, Any] = json.loads(data)
    except ValueError as error:
        raise ChatError("The answer cannot be read.") from error
    if "error" in event:
        raise ChatError(str(event["error"].get("message") or "The answer was cut off."))
    choices = event.get("choices") or [{}]
    text = (choices[0].get("delta") or {}).get("content") or ""
    usage = event.get("usage") or {}
    return Piece(text, node, usage.get("completion_tokens"))


def _message(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"The router answered {status}."
