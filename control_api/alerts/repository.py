"""All queries that look for what is wrong. Each returns nothing, at little cost, where all is well."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.automation.models import HostDrift, Job, JobHost, WorkerPresence
from control_api.automation.presence import GONE_AFTER_S
from control_api.automation.states import HostStatus, JobStatus
from control_api.catalogue.models import Artifact, Model
from control_api.distribution.fetch_models import DistrustedPeer
from control_api.distribution.models import DownloadTask
from control_api.distribution.states import TaskStatus
from control_api.fleet.models import Assignment, Host, Node, NodeHold, NodeModel
from control_api.fleet.states import HostState, ModelState, NodeState
from control_api.kit.clock import db_now
from control_api.telemetry.breakers import GONE
from control_api.telemetry.models import RouterBreaker

# Jobs that ended longer ago are history.
RECENT_S = 86400
# A router tries a node again within seconds; one that it cannot reach for so long needs somebody.
OUT_OF_ROTATION_S = 30

_ENDED = (JobStatus.SUCCESSFUL, JobStatus.FAILED, JobStatus.LOST)
_OPEN = (JobStatus.QUEUED, JobStatus.RUNNING)


def _host_is_not(state: HostState) -> Any:
    return sa.or_(col(Host.state).is_(None), col(Host.state) != state)


def _in_service() -> Any:
    """Of a node: its host was not taken out of service. What is wrong with the others is meant to be."""
    return _host_is_not(HostState.DECOMMISSIONED)


async def troubled_nodes(session: AsyncSession) -> list[tuple[Node, str | None]]:
    """Return the nodes that something is wrong with, with the names of their hosts."""
    wrong = sa.or_(
        col(Node.state).in_([NodeState.OFFLINE, NodeState.PENDING]),
        col(Node.degraded),
        sa.cast(col(Node.errors), sa.Text) != "[]",
    )
    statement = select(Node, Host.name).outerjoin(Host, col(Host.id) == Node.host_id).where(wrong, _in_service())
    return [(node, host) for node, host in (await session.exec(statement)).all()]


async def online_nodes(session: AsyncSession, node_ids: Collection[str]) -> list[Node]:
    """Return those of these nodes that are in service and online."""
    statement = select(Node).outerjoin(Host, col(Host.id) == Node.host_id).where(col(Node.id).in_(node_ids), _in_service())
    return list((await session.exec(statement.where(Node.state == NodeState.ONLINE))).all())


async def failed_models(session: AsyncSession, node_ids: Collection[str]) -> list[NodeModel]:
    """Return the models that failed on these nodes, by id."""
    statement = select(NodeModel).where(col(NodeModel.node_id).in_(node_ids), NodeModel.state == ModelState.FAILED)
    return list((await session.exec(statement.order_by(col(NodeModel.model_id)))).all())


async def left_drained(session: AsyncSession) -> list[tuple[NodeHold, str, str | None, str | None]]:
    """Return the holds that outlived their jobs, with the names of node and host and the job's playbook if it is known."""
    statement = (
        select(NodeHold, Node.name, Host.name, Job.playbook)
        .join(Node, col(Node.id) == NodeHold.node_id)
        .outerjoin(Host, col(Host.id) == Node.host_id)
        .outerjoin(Job, col(NodeHold.holder) == sa.literal("job:") + col(Job.id))
        .where(col(NodeHold.outlives_job), _in_service())
        .where(sa.or_(col(Job.status).is_(None), col(Job.status).not_in(_OPEN)))
    )
    return [(hold, node, host, playbook) for hold, node, host, playbook in (await session.exec(statement)).all()]


async def distrusted_peers(session: AsyncSession) -> list[tuple[DistrustedPeer, str, str]]:
    """Return who gave wrong bytes and has not installed the file anew since, with the names of node and model."""
    statement = (
        select(DistrustedPeer, Node.name, NodeModel.model_id)
        .join(Node, col(Node.id) == DistrustedPeer.node_id)
        .join(Artifact, col(Artifact.sha256) == DistrustedPeer.sha256)
        .join(NodeModel, sa.and_(col(NodeModel.node_id) == Node.id, col(NodeModel.model_id) == Artifact.model_id))
        .where(col(NodeModel.installed_at).is_not_distinct_from(col(DistrustedPeer.installed_at)))
    )
    return [(row, node, model) for row, node, model in (await session.exec(statement)).all()]


async def broken_links(session: AsyncSession) -> list[RouterBreaker]:
    """Return which routers have had which nodes out of rotation for some time, longest first. Of the telemetry store."""
    said = select(RouterBreaker).where(
        col(RouterBreaker.reported_at) > db_now(-int(GONE.total_seconds())),
        col(RouterBreaker.since) < db_now(-OUT_OF_ROTATION_S),
    )
    return list((await session.exec(said.order_by(col(RouterBreaker.since)))).all())


async def proposed_hosts(session: AsyncSession) -> list[Host]:
    """Return the hosts that no admin has accepted yet."""
    return list((await session.exec(select(Host).where(col(Host.accepted_at).is_(None)))).all())


async def failed_hosts(session: AsyncSession) -> list[tuple[Host, Job | None]]:
    """Return the hosts that a job left failed, with the latest job that meant to change them."""
    latest = (
        select(Job.id)
        .join(JobHost, col(JobHost.job_id) == Job.id)
        .where(JobHost.host_id == Host.id, col(Job.locks_hosts), ~col(Job.check), col(Job.status).in_(_ENDED))
        .order_by(col(Job.id).desc())
        .limit(1)
        .correlate(Host)
        .scalar_subquery()
    )
    statement = select(Host, Job).outerjoin(Job, col(Job.id) == latest).where(Host.state == HostState.FAILED)
    return [(host, job) for host, job in (await session.exec(statement)).all()]


async def drifted_hosts(session: AsyncSession) -> list[tuple[Host, HostDrift]]:
    """Return the hosts in service that had drifted at their latest check."""
    statement = select(Host, HostDrift).join(HostDrift, col(HostDrift.host_id) == Host.id)
    drifted = statement.where(HostDrift.status == HostStatus.DRIFTED, Host.state != HostState.DECOMMISSIONED)
    return [(host, drift) for host, drift in (await session.exec(drifted)).all()]


async def troubled_jobs(session: AsyncSession) -> list[tuple[Job, str]]:
    """Return jobs that failed or were lost lately, once for each host that no later run has put right, with its name.

    A later run of the same playbook speaks for the host from then on, and so does one of any playbook that went well.
    """
    pair, later = aliased(JobHost), aliased(Job)
    settled = (
        sa.exists()
        .where(col(pair.host_id) == JobHost.host_id, col(later.id) == pair.job_id)
        .where(col(later.id) > Job.id, col(later.check) == Job.check)
        .where(
            sa.or_(
                sa.and_(col(later.playbook) == Job.playbook, col(later.status).in_(_ENDED)),
                sa.and_(col(later.status) == JobStatus.SUCCESSFUL, col(later.locks_hosts)),
            )
        )
    )
    statement = (
        select(Job, JobHost.name)
        .join(JobHost, col(JobHost.job_id) == Job.id)
        .outerjoin(Host, col(Host.id) == JobHost.host_id)
        .where(col(Job.status).in_([JobStatus.FAILED, JobStatus.LOST]), col(Job.finished_at) > db_now(-RECENT_S), ~settled)
        # Where the host itself is shown as failed, with what its job said, the job adds nothing; a lost one said nothing.
        .where(sa.or_(col(Job.status) == JobStatus.LOST, _host_is_not(HostState.FAILED)))
        .order_by(col(Job.id), col(JobHost.name))
    )
    return [(job, name) for job, name in (await session.exec(statement)).all()]


async def waiting_since(session: AsyncSession) -> datetime | None:
    """Return since when a job waits for a worker: to be taken, or to be given up; None: none does."""
    given_up = sa.and_(col(Job.status) == JobStatus.RUNNING, col(Job.lease_until) < db_now(-GONE_AFTER_S))
    waiting = select(sa.func.min(Job.created_at)).where(sa.or_(col(Job.status) == JobStatus.QUEUED, given_up))
    return (await session.exec(waiting)).one()


async def worker_seen(session: AsyncSession) -> tuple[bool, datetime | None]:
    """Return whether a worker is there, and when the last one was seen."""
    here = select(WorkerPresence.name).where(col(WorkerPresence.seen_at) > db_now(-GONE_AFTER_S)).limit(1)
    seen = (await session.exec(select(sa.func.max(WorkerPresence.seen_at)))).one()
    return (await session.exec(here)).first() is not None, seen


async def failed_tasks(session: AsyncSession) -> list[tuple[DownloadTask, str]]:
    """Return the downloads whose latest attempt failed though the model is still wanted there, with the nodes' names.

    A node that reports the failure itself is left out, and so is what does not fit.
    """
    later = aliased(DownloadTask)
    again = sa.exists().where(
        col(later.node_id) == DownloadTask.node_id,
        col(later.model_id) == DownloadTask.model_id,
        col(later.id) > DownloadTask.id,
    )
    wanted = sa.and_(
        col(Assignment.node_id) == DownloadTask.node_id,
        col(Assignment.model_id) == DownloadTask.model_id,
        ~col(Assignment.paused),
        col(Assignment.unschedulable).is_(None),
    )
    statement = (
        select(DownloadTask, Node.name)
        .join(Assignment, wanted)
        .join(Node, col(Node.id) == DownloadTask.node_id)
        .where(DownloadTask.status == TaskStatus.FAILED, ~col(Node.degraded), ~again)
    )
    return [(task, node) for task, node in (await session.exec(statement)).all()]


async def models_without_room(session: AsyncSession) -> list[tuple[str, datetime, str, int]]:
    """Return the models that fit on none of the nodes they are meant for: id, since when, one reason, how many nodes."""
    its, fits = aliased(Assignment), aliased(Assignment)
    # Asked of each model: with many nodes, the first assignment that fits is the answer.
    somewhere = sa.exists().where(col(fits.model_id) == Model.id, col(fits.unschedulable).is_(None))
    statement = (
        select(Model.id, sa.func.min(its.created_at), sa.func.min(its.unschedulable), sa.func.count())
        .join(its, col(its.model_id) == Model.id)
        .where(~somewhere)
        .group_by(col(Model.id))
    )
    return [(id_, since, reason or "", count) for id_, since, reason, count in (await session.exec(statement)).all()]
