"""``/v0/alerts``."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from control_api.access.principal import Reader
from control_api.alerts.schemas import AlertOut, Severity
from control_api.alerts.service import AlertService, order
from control_api.kit.http import ReadSession, TelemetryRead
from control_api.kit.paging import Cursor, Limit, decode_cursor, encode_cursor
from control_api.kit.wire import Page

router = APIRouter(prefix="/v0", tags=["telemetry"])


@router.get("/alerts")
async def list_alerts(
    _: Reader,
    request: Request,
    session: ReadSession,
    telemetry: TelemetryRead,
    severity: Annotated[Severity | None, Query(description="Only these.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[AlertOut]:
    """List what somebody must act on now: the critical first, of these the oldest. What is put right is gone."""
    alerts: AlertService = request.state.alerts
    after = decode_cursor(cursor) if cursor else ""
    found = await alerts.find(session, telemetry)
    found = [alert for alert in found if severity in (None, alert.severity) and order(alert) > after]
    more = len(found) > limit
    return Page(items=found[:limit], next_cursor=encode_cursor(order(found[limit - 1])) if more else None)
