"""What inference tokens are derived from, as the store has it now. What is gone from here takes its tokens with it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.models import ApiKey, User, UserSession
from control_api.access.principal import job_parent, session_parent, with_implied
from control_api.access.schemas import Scope
from control_api.automation.models import Job, JobHost
from control_api.automation.states import JobStatus
from control_api.fleet.models import Node
from control_api.kit.clock import db_now
from control_api.router.table import TokenParent


async def load_parents(session: AsyncSession, keys: Iterable[ApiKey]) -> dict[str, TokenParent]:
    """Return everything that tokens may be derived from: keys, the sessions of users, running jobs."""
    of_keys = {f"api_key:{key.id}": _of_key(key) for key in keys}
    rows = (await session.exec(select(User.id, User.name, User.scopes))).all()
    users = {id_: _of_user(name, scopes) for id_, name, scopes in rows}
    askers = of_keys | {f"user:{id_}": user for id_, user in users.items()}
    return of_keys | await _sessions(session, users) | await _jobs(session, askers)


async def _sessions(session: AsyncSession, users: Mapping[str, TokenParent]) -> dict[str, TokenParent]:
    columns = select(UserSession.token_id, UserSession.user_id, UserSession.expires_at)
    rows = (await session.exec(columns.where(col(UserSession.expires_at) > db_now()))).all()
    alive = ((token_id, users.get(user_id), expires_at) for token_id, user_id, expires_at in rows)
    return {session_parent(token_id): replace(user, expires_at=expires_at) for token_id, user, expires_at in alive if user}


async def _jobs(session: AsyncSession, askers: Mapping[str, TokenParent]) -> dict[str, TokenParent]:
    running = select(Job.id, Job.attempt, Job.asker).where(Job.status == JobStatus.RUNNING)
    jobs = (await session.exec(running)).all()
    if not jobs:
        return {}
    on_its_hosts = select(JobHost.job_id, Node.id).join(Node, col(Node.host_id) == JobHost.host_id)
    nodes: defaultdict[str, set[str]] = defaultdict(set)
    for job_id, node_id in (await session.exec(on_its_hosts.where(col(JobHost.job_id).in_([job[0] for job in jobs])))).all():
        nodes[job_id].add(node_id)
    found = {(id_, attempt): (askers.get(asker) if asker else _MUSTER, nodes[id_]) for id_, attempt, asker in jobs}
    return {job_parent(*job): _of_job(job[0], asker, own) for job, (asker, own) in found.items() if asker}


# Whose jobs are asked for by the clock.
_MUSTER = TokenParent("muster", "muster", with_implied([Scope.OPERATE]))


def _of_key(key: ApiKey) -> TokenParent:
    scopes = with_implied(key.scopes)
    return TokenParent(
        caller_id=f"key:{key.id}",
        bucket=f"key:{key.id}",
        scopes=scopes,
        models=None if key.models is None else frozenset(key.models),
        expires_at=key.expires_at,
        requests_per_minute=key.requests_per_minute,
        tokens_per_minute=key.tokens_per_minute,
        pins=_pins(scopes),
    )


def _of_user(name: str, given: Sequence[str]) -> TokenParent:
    scopes = with_implied(given)
    return TokenParent(f"token:user:{name}", f"user:{name}", scopes, pins=_pins(scopes))


def _of_job(job_id: str, asker: TokenParent, node_ids: set[str]) -> TokenParent:
    """A job has its own nodes answer a test, if whoever asked for it may operate; within their limits."""
    scopes = frozenset({Scope.INFERENCE}) if Scope.OPERATE in asker.scopes else frozenset[Scope]()
    return replace(asker, caller_id=f"token:job:{job_id}", scopes=scopes, pins=frozenset(node_ids), only_pinned=True)


def _pins(scopes: frozenset[Scope]) -> frozenset[str] | None:
    return None if Scope.OPERATE in scopes else frozenset()
