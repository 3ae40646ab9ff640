"""The API's WebSocket as an iterator that outlives its connections."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from control_api.client.errors import ApiError, NotSignedIn
from control_api.client.http import Http

OPEN_TIMEOUT_S = 10.0
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 10.0
CLOSED_UNAUTHENTICATED = 1008


@dataclass(frozen=True)
class LiveEvent:
    """One message of the API.

    ``type`` is ``reset`` when what was known of the topic may be out of date: read the list, then follow. Job events
    carry their ``id``.
    """

    topic: str
    type: str
    at: str | None = None
    id: int | None = None
    data: dict[str, Any] = field(default_factory=dict)


async def follow(http: Http, topics: Iterable[str], after: Mapping[str, int] | None = None) -> AsyncGenerator[LiveEvent]:
    """Yield the events of ``topics`` for ever, connecting again whenever the connection is lost.

    After each connect the API resets every topic but jobs' (``job:<id>``), which resume after the last id seen.
    Raises NotSignedIn or ApiError when the API refuses; a control API that does not answer is waited for.
    """
    seen = dict(after or {})
    topics = list(topics)
    wait_s = FIRST_WAIT_S
    while True:
        try:
            async with connect(
                http.base_url.replace("http", "ws", 1) + "/v0/events",
                additional_headers=await http.headers(),
                open_timeout=OPEN_TIMEOUT_S,
                max_size=1 << 22,
            ) as socket:
                wait_s = FIRST_WAIT_S
                async with aclosing(_messages(socket, topics, seen)) as messages:
                    async for event in messages:
                        yield event
        except InvalidStatus as error:
            _raise_if_refused(error.response.status_code)
        except ConnectionClosed as error:
            if error.rcvd is not None and error.rcvd.code == CLOSED_UNAUTHENTICATED:
                raise NotSignedIn("unauthenticated", "The API closed the live connection.", hint=error.rcvd.reason) from error
        except (OSError, InvalidHandshake, TimeoutError):
            pass  # Not there now; the next turn tries again.
        await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
        wait_s = min(wait_s * 2, LONGEST_WAIT_S)


async def _messages(socket: ClientConnection, topics: list[str], seen: dict[str, int]) -> AsyncGenerator[LiveEvent]:
    await socket.send(json.dumps({"subscribe": topics, "after": seen}))
    async for raw in socket:
        message = json.loads(raw)
        event = LiveEvent(
            topic=message.get("topic", ""),
            type=message.get("type", ""),
            at=message.get("at"),
            id=message.get("id"),
            data=message.get("data") or {},
        )
        if event.id is not None:
            seen[event.topic] = event.id
        yield event


def _raise_if_refused(status: int) -> None:
    if status == 401:
        raise NotSignedIn("unauthenticated", "The API refused the live connection.", status=status)
    if 400 <= status < 500 and status != 429:
        raise ApiError("live_refused", f"The API refused the live connection with {status}.", status=status)
