"""``/v0/jobs``."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, status

from control_api.access.principal import Operator, Reader
from control_api.automation import external, history, repository
from control_api.automation.models import Job
from control_api.automation.schemas import ChangeOut, JobCreate, JobDetail, JobEventOut, JobEventsIn, JobEventsOut, JobOut
from control_api.automation.service import JobService
from control_api.automation.states import JobStatus
from control_api.fleet.schemas import InventoryOut
from control_api.kit.http import ReadSession, TelemetryRead, TelemetryWrite, WriteSession
from control_api.kit.paging import Cursor, Limit
from control_api.kit.wire import Page

router = APIRouter(prefix="/v0", tags=["jobs"])

AfterId = Annotated[int, Query(ge=0, le=1 << 62, description="`last_id` of the answer before.")]


def _jobs(request: Request) -> JobService:
    service: JobService = request.state.automation
    return service


async def _one(request: Request, session: WriteSession | ReadSession, telemetry: TelemetryRead, job: Job) -> JobOut:
    return (await _jobs(request).out(session, telemetry, [job]))[0]


@router.post("/jobs", status_code=status.HTTP_202_ACCEPTED, responses={201: {"model": JobOut}})
async def create_job(
    wanted: JobCreate,
    principal: Operator,
    request: Request,
    response: Response,
    session: WriteSession,
    telemetry: TelemetryRead,
) -> JobOut:
    """Queue a playbook for hosts given by name or id (202), or record a run that begins elsewhere (``external``, 201)."""
    if wanted.external:
        response.status_code = status.HTTP_201_CREATED
        job = await external.open_run(_jobs(request), session, wanted, principal)
    else:
        job = await _jobs(request).create(session, wanted, principal)
    return await _one(request, session, telemetry, job)


@router.get("/jobs")
async def list_jobs(
    _: Reader,
    request: Request,
    session: ReadSession,
    telemetry: TelemetryRead,
    status: JobStatus | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[JobOut]:
    """List jobs, newest first."""
    jobs, next_cursor = await repository.page_jobs(session, status, cursor, limit)
    return Page(items=await _jobs(request).out(session, telemetry, jobs), next_cursor=next_cursor)


@router.get("/jobs/{job_id}")
async def get_job(job_id: str, _: Reader, request: Request, session: ReadSession, telemetry: TelemetryRead) -> JobDetail:
    """Show a job; while it is queued, ``waiting_for`` says what for."""
    return await _jobs(request).detail(session, telemetry, await _jobs(request).get(session, job_id))


@router.get("/jobs/{job_id}/inventory")
async def get_inventory(job_id: str, _: Reader, request: Request, session: ReadSession) -> InventoryOut:
    """Show the inventory that a job ran with."""
    return await _jobs(request).inventory(session, job_id)


@router.get("/jobs/{job_id}/changes")
async def list_changes(
    job_id: str,
    _: Reader,
    request: Request,
    session: ReadSession,
    telemetry: TelemetryRead,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ChangeOut]:
    """List what a job changed, with the differences; in check mode what it would have changed."""
    job = await _jobs(request).get(session, job_id)
    rows, next_cursor = await history.page_changes(telemetry, job, cursor, limit)
    return Page(items=[ChangeOut.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get("/jobs/{job_id}/events")
async def list_events(
    job_id: str,
    _: Reader,
    request: Request,
    session: ReadSession,
    telemetry: TelemetryRead,
    after: AfterId = 0,
    limit: Limit = 100,
) -> JobEventsOut:
    """List the events of a job in order, from a row id on."""
    # The state is read first: if the job has ended by then, the events that follow are all there are.
    final = (await _jobs(request).get(session, job_id)).status.is_final
    rows = await repository.events_after(telemetry, job_id, after, limit)
    events = [JobEventOut.model_validate(row) for row in rows]
    last_id = events[-1].id if events else after
    more = len(events) == limit
    return JobEventsOut(items=events, next_cursor=str(last_id) if more else None, last_id=last_id, final=final)


@router.post("/jobs/{job_id}/events")
async def post_events(
    job_id: str,
    sent: JobEventsIn,
    principal: Operator,
    request: Request,
    session: WriteSession,
    telemetry: TelemetryWrite,
) -> JobOut:
    """Store events of an external run, renew its lease, end it."""
    job = await external.report(_jobs(request), session, telemetry, job_id, sent, principal)
    return await _one(request, session, telemetry, job)


@router.post("/jobs/{job_id}/cancel", status_code=status.HTTP_202_ACCEPTED)
async def cancel_job(job_id: str, _: Operator, request: Request, session: WriteSession, telemetry: TelemetryRead) -> JobOut:
    """Stop a job: no process of it stays on the controller or on a host."""
    return await _one(request, session, telemetry, await _jobs(request).cancel(session, job_id))


@router.post("/jobs/{job_id}/retry", status_code=status.HTTP_202_ACCEPTED)
async def retry_job(
    job_id: str, principal: Operator, request: Request, session: WriteSession, telemetry: TelemetryRead
) -> JobOut:
    """Queue a job that has ended once more; if some of its hosts failed, for those only."""
    return await _one(request, session, telemetry, await _jobs(request).retry(session, job_id, principal))
