"""``/v0/hub``: the pass-through, in the layout of a hub. For nodes, and for what is registered."""

from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.responses import StreamingResponse

from control_api.catalogue.hub import Hub
from control_api.distribution import passthrough
from control_api.fleet.node_auth import AnyNode
from control_api.kit.http import ReadSession

router = APIRouter(prefix="/v0/hub", tags=["distribution"])


@router.get("/{owner}/{name}/resolve/{revision}/{path:path}", response_class=StreamingResponse)
async def stream(
    request: Request,
    owner: str,
    name: str,
    revision: str,
    path: str,
    node: AnyNode,
    session: ReadSession,
    byte_range: Annotated[str | None, Header(alias="range", max_length=64)] = None,
) -> StreamingResponse:
    """Stream a registered file from the hub to a node that has leave to fetch it; ``Range`` is passed on."""
    await passthrough.check_leave(session, node, f"{owner}/{name}", revision, path)
    # The stream may take an hour: give the connection back.
    await session.close()
    hub: Hub = request.state.hub
    return await passthrough.open_stream(hub.files, f"{owner}/{name}", revision, path, byte_range)
