"""The pass-through: a node that reaches no hub reads registered artifacts through the control API, which keeps nothing.

Bytes are read from the hub as fast as the node takes them and no faster: each piece is sent before the next one is read.
"""

import re
from contextlib import AsyncExitStack
from typing import Any

import httpx2
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from control_api.catalogue.files import Files
from control_api.catalogue.models import Artifact, Model
from control_api.distribution.fetch_models import FetchGrant, GrantState
from control_api.errors import Forbidden, NotFound, Unavailable
from control_api.fleet.models import Node

_RANGE = re.compile(r"bytes=[0-9]{1,18}-[0-9]{0,18}")
_PASSED_ON = ("content-length", "content-range", "etag", "accept-ranges", "last-modified")


async def check_leave(session: AsyncSession, node: Node, repo: str, revision: str, path: str) -> None:
    """Raise ``NotFound`` for what is not registered, and ``Forbidden`` for a node that has no grant to fetch it now."""
    registered = (
        select(Artifact.sha256).join(Model).where(Model.repo == repo, Model.revision == revision, Artifact.path == path)
    )
    digests = (await session.exec(registered)).all()
    if not digests:
        raise NotFound(f"No registered model has the file {path!r} of {repo} at {revision[:12]}.", code="not_registered")
    grants = select(FetchGrant.sha256).where(FetchGrant.node_id == node.id, FetchGrant.state == GrantState.GRANTED)
    if not {*digests} & {*(await session.exec(grants)).all()}:
        raise Forbidden(
            f"{node.name} has no leave to fetch {path} now.",
            code="no_fetch_grant",
            hint="Ask for it: POST /v0/nodes/{id}/fetches.",
        )


async def open_stream(files: Files, repo: str, revision: str, path: str, byte_range: str | None) -> StreamingResponse:
    """Open a file at the hub and return an answer that streams it.

    Raises ``Unavailable`` when the hub does not give the file.
    """
    stack = AsyncExitStack()
    wanted = byte_range if byte_range and _RANGE.fullmatch(byte_range) else None
    try:
        answer = await stack.enter_async_context(files.open(repo, revision, path, byte_range=wanted))
        if answer.status_code not in (200, 206):
            raise Unavailable(f"The hub answered {answer.status_code} for {path} of {repo}.", code="hub_unreachable")
    except httpx2.HTTPError as error:
        await stack.aclose()
        reason = str(error) or type(error).__name__
        raise Unavailable(f"{path} of {repo} cannot be read from the hub: {reason}", code="hub_unreachable") from error
    except BaseException:
        await stack.aclose()
        raise
    # What the hub says it is, it is not for a browser.
    headers = {"content-type": "application/octet-stream"}
    headers |= {name: value for name in _PASSED_ON if (value := answer.headers.get(name))}
    return _Stream(answer, stack, headers)


class _Stream(StreamingResponse):
    """Sends the hub's answer on, and closes it however that ends."""

    def __init__(self, answer: httpx2.Response, stack: AsyncExitStack, headers: dict[str, Any]) -> None:
        super().__init__(answer.aiter_raw(), answer.status_code, headers)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or as much as the node takes."""
        async with self._stack:
            await super().__call__(scope, receive, send)
