"""``/v0/requests``."""

import zlib
from typing import Annotated

from fastapi import APIRouter, Path, Query

from control_api.access.principal import Operator, Reader
from control_api.errors import NotFound
from control_api.kit.http import TelemetryRead
from control_api.kit.paging import Cursor, Limit
from control_api.kit.wire import Instant, LineStr, Page
from control_api.telemetry import repository
from control_api.telemetry.schemas import RequestDetail, RequestOut

router = APIRouter(prefix="/v0", tags=["telemetry"])

Wanted = Annotated[LineStr | None, Query()]


@router.get("/requests")
async def list_requests(
    _: Reader,
    session: TelemetryRead,
    model: Wanted = None,
    node_id: Wanted = None,
    caller_id: Annotated[LineStr | None, Query(description="`key:<id>`, `token:user:<name>` or `token:job:<id>`.")] = None,
    request_id: Annotated[LineStr | None, Query(description="`x-request-id` of the answer.")] = None,
    failed: Annotated[bool | None, Query(description="Only those that failed, or only those that did not.")] = None,
    since: Instant | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[RequestOut]:
    """List finished requests to the router, newest first. They are kept for seven days."""
    wanted = repository.RequestFilter(
        model=model, node_id=node_id, caller_id=caller_id, request_id=request_id, failed=failed, since=since
    )
    rows, next_cursor = await repository.page_requests(session, wanted, cursor=cursor, limit=limit)
    return Page[RequestOut](items=[RequestOut.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get("/requests/{id}")
async def show_request(_: Operator, session: TelemetryRead, id: Annotated[int, Path(ge=1, le=1 << 62)]) -> RequestDetail:
    """Show one request, with what was asked and answered if that was kept."""
    row = await repository.get_request(session, id)
    if row is None:
        raise NotFound(f"There is no request {id}, or no more.", code="unknown_request")
    contents = {
        "request_content": _text(row.request_content),
        "response_content": _text(row.response_content),
    }
    return RequestDetail(**RequestOut.model_validate(row).model_dump(), **contents)


def _text(content: bytes | None) -> str | None:
    return None if content is None else zlib.decompress(content).decode(errors="replace")
