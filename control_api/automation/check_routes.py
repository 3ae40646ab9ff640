"""``/v0/drift``, ``/v0/plan`` and ``/v0/apply``."""

from fastapi import APIRouter, Request, status

from control_api.access.principal import Operator, Reader
from control_api.automation.drift import DriftService
from control_api.automation.models import Job
from control_api.automation.plans import PlanService
from control_api.automation.schemas import ApplyIn, DriftApply, HostDriftOut, HostsIn, JobOut, PlanOut
from control_api.automation.service import JobService
from control_api.fleet import repository as fleet
from control_api.kit.http import ReadSession, TelemetryRead, WriteSession
from control_api.kit.paging import Cursor, Limit
from control_api.kit.wire import Page

router = APIRouter(prefix="/v0", tags=["drift and plans"])


def _drift(request: Request) -> DriftService:
    service: DriftService = request.state.drift
    return service


def _plans(request: Request) -> PlanService:
    service: PlanService = request.state.plans
    return service


async def _out(request: Request, session: WriteSession, telemetry: TelemetryRead, job: Job) -> JobOut:
    jobs: JobService = request.state.automation
    return (await jobs.out(session, telemetry, [job]))[0]


@router.get("/drift")
async def show_drift(
    _: Reader, request: Request, session: ReadSession, limit: Limit = 100, cursor: Cursor = None
) -> Page[HostDriftOut]:
    """List hosts by name with what the latest check found on them."""
    hosts, next_cursor = await fleet.page_hosts(session, cursor, limit)
    return Page(items=await _drift(request).show(session, hosts), next_cursor=next_cursor)


@router.post("/drift", status_code=status.HTTP_202_ACCEPTED)
async def check_drift(
    wanted: HostsIn, principal: Operator, request: Request, session: WriteSession, telemetry: TelemetryRead
) -> JobOut:
    """Check hosts for drift; the answer is the job that does it."""
    return await _out(request, session, telemetry, await _drift(request).check(session, wanted, principal))


@router.post("/drift/apply", status_code=status.HTTP_202_ACCEPTED)
async def apply_drift(
    wanted: DriftApply, principal: Operator, request: Request, session: WriteSession, telemetry: TelemetryRead
) -> JobOut:
    """Put right what drifted: `converge.yml` on those of the hosts that had drifted at their latest check."""
    return await _out(request, session, telemetry, await _drift(request).apply(session, wanted, principal))


@router.post("/plan", status_code=status.HTTP_202_ACCEPTED)
async def make_plan(
    wanted: HostsIn, principal: Operator, request: Request, session: WriteSession, telemetry: TelemetryRead
) -> JobOut:
    """Work out what `site.yml` would change; the answer is the job that does it, and its id is the plan's."""
    return await _out(request, session, telemetry, await _plans(request).create(session, wanted, principal))


@router.get("/plan/{job_id}")
async def get_plan(job_id: str, _: Reader, request: Request, session: ReadSession) -> PlanOut:
    """Show a plan; complete when it has a hash."""
    return await _plans(request).get(session, job_id)


@router.post("/apply", status_code=status.HTTP_202_ACCEPTED)
async def apply_plan(
    wanted: ApplyIn, principal: Operator, request: Request, session: WriteSession, telemetry: TelemetryRead
) -> JobOut:
    """Run what was planned; refused if anything that the plan was worked out from has changed."""
    return await _out(request, session, telemetry, await _plans(request).apply(session, wanted.plan_hash, principal))
