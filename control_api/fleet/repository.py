"""All queries on hosts, nodes, tickets and holds."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import or_
from sqlmodel import col, delete, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.fleet.models import (
    Assignment,
    Credential,
    EnrolmentTicket,
    Host,
    Listening,
    Node,
    NodeHold,
    NodeModel,
    NodeTransition,
)
from control_api.fleet.served import Given
from control_api.fleet.states import HostState, ModelState, NodeState
from control_api.kit.clock import db_now
from control_api.kit.paging import page


class GivenReport(NamedTuple):
    """What a node reports of a model, and what it was given of it; ``rest``: the columns that were asked for beside."""

    model_id: str
    told: ModelState
    given: Given
    rest: tuple[Any, ...]


async def get_host(session: AsyncSession, host_id: str) -> Host | None:
    """Return a host by id."""
    return await session.get(Host, host_id)


async def hosts_by_reference(session: AsyncSession, references: Collection[str]) -> list[Host]:
    """Return the hosts whose name or id is among the references, by name."""
    matching = or_(col(Host.id).in_(references), col(Host.name).in_(references))
    return list((await session.exec(select(Host).where(matching).order_by(col(Host.name)))).all())


async def host_names(session: AsyncSession, limit: int = 20) -> list[str]:
    """Return the first names of hosts, for error messages."""
    return list((await session.exec(select(Host.name).order_by(col(Host.name)).limit(limit))).all())


async def list_hosts(session: AsyncSession, host_ids: Collection[str] | None = None) -> list[Host]:
    """Return all hosts, or those with these ids, by name."""
    statement = select(Host).order_by(col(Host.name))
    if host_ids is not None:
        statement = statement.where(col(Host.id).in_(host_ids))
    return list((await session.exec(statement)).all())


async def accepted_hosts(session: AsyncSession) -> list[Host]:
    """Return the hosts that an admin accepted, by name."""
    statement = select(Host).where(col(Host.accepted_at).is_not(None)).order_by(col(Host.name))
    return list((await session.exec(statement)).all())


async def page_hosts(session: AsyncSession, cursor: str | None, limit: int) -> tuple[list[Host], str | None]:
    """Return a page of hosts by name."""
    return await page(session, select(Host), Host.name, cursor=cursor, limit=limit)


async def node_ids_by_host(session: AsyncSession) -> dict[str, str]:
    """Return the node id of each host that has one."""
    rows = (await session.exec(select(Node.host_id, Node.id).where(col(Node.host_id).is_not(None)))).all()
    return {host_id: node_id for host_id, node_id in rows if host_id}


async def set_host_state(session: AsyncSession, host_ids: Collection[str], state: HostState) -> None:
    """Set the state of hosts."""
    await session.exec(update(Host).where(col(Host.id).in_(host_ids)).values(state=state))


async def get_credential(session: AsyncSession, credential_id: str) -> Credential | None:
    """Return a credential by id."""
    return await session.get(Credential, credential_id)


async def page_credentials(session: AsyncSession, cursor: str | None, limit: int) -> tuple[list[Credential], str | None]:
    """Return a page of credentials by name."""
    return await page(session, select(Credential), Credential.name, cursor=cursor, limit=limit)


async def use_ticket(session: AsyncSession, ticket_hash: str) -> EnrolmentTicket | None:
    """Mark a ticket as used and return it; None if it is unknown, used or expired. One statement: used once only."""
    statement = (
        update(EnrolmentTicket)
        .where(col(EnrolmentTicket.ticket_hash) == ticket_hash, col(EnrolmentTicket.used_at).is_(None))
        .where(col(EnrolmentTicket.expires_at) > db_now())
        .values(used_at=db_now())
        .returning(EnrolmentTicket)
    )
    return (await session.exec(statement)).scalars().first()


async def delete_old_tickets(session: AsyncSession) -> None:
    """Forget tickets that expired an hour ago."""
    await session.exec(delete(EnrolmentTicket).where(col(EnrolmentTicket.expires_at) < db_now(-3600)))


async def get_node(session: AsyncSession, node_id: str) -> Node | None:
    """Return a node by id."""
    return await session.get(Node, node_id)


async def host_of_node(session: AsyncSession, node_id: str) -> str | None:
    """Return the id of a node's host."""
    return (await session.exec(select(Node.host_id).where(Node.id == node_id))).first()


async def node_of_host(session: AsyncSession, host_id: str) -> Node | None:
    """Return the node of a host."""
    return (await session.exec(select(Node).where(Node.host_id == host_id))).first()


async def node_by_name(session: AsyncSession, name: str) -> Node | None:
    """Return a node by name."""
    return (await session.exec(select(Node).where(Node.name == name))).first()


async def node_by_token(session: AsyncSession, hashed: str) -> Node | None:
    """Return the node whose present or next token has this hash."""
    matching = or_(col(Node.token_hash) == hashed, col(Node.next_token_hash) == hashed)
    return (await session.exec(select(Node).where(matching))).first()


async def list_nodes(session: AsyncSession, node_ids: Collection[str] | None = None) -> list[Node]:
    """Return all nodes, or those with these ids, by name."""
    statement = select(Node).order_by(col(Node.name))
    if node_ids is not None:
        statement = statement.where(col(Node.id).in_(node_ids))
    return list((await session.exec(statement)).all())


async def page_nodes(
    session: AsyncSession, state: NodeState | None, cursor: str | None, limit: int
) -> tuple[list[Node], str | None]:
    """Return a page of nodes by name, of all states or of one."""
    statement = select(Node) if state is None else select(Node).where(Node.state == state)
    return await page(session, statement, Node.name, cursor=cursor, limit=limit)


async def node_models(session: AsyncSession, node_ids: Collection[str]) -> dict[str, list[NodeModel]]:
    """Return the reported models of nodes, by node."""
    found: dict[str, list[NodeModel]] = defaultdict(list)
    statement = select(NodeModel).where(col(NodeModel.node_id).in_(node_ids)).order_by(col(NodeModel.model_id))
    for row in (await session.exec(statement)).all():
        found[row.node_id].append(row)
    return found


def given_reports(*columns: Any) -> sa.Select[Any]:
    """Return a statement for what nodes report of models, beside what they were given of them; read it by ``read_given``.

    Parameters
    ----------
    columns: further ones, of ``NodeModel`` or of what the statement is joined with.
    """
    given = map(col, (Assignment.residency, Assignment.generation, Assignment.paused, Assignment.unschedulable))
    pair = sa.and_(col(Assignment.node_id) == NodeModel.node_id, col(Assignment.model_id) == NodeModel.model_id)
    selected: list[Any] = [col(NodeModel.model_id), col(NodeModel.state), *given, *columns]
    return sa.select(*selected).select_from(NodeModel).outerjoin(Assignment, pair)


async def read_given(session: AsyncSession, statement: sa.Select[Any]) -> list[GivenReport]:
    """Return the rows of such a statement."""
    await session.flush()
    rows = (await (await session.connection()).execute(statement)).all()
    return [GivenReport(row[0], row[1], Given._make(row[2:6]), tuple(row[6:])) for row in rows]


async def given(session: AsyncSession, node_ids: Collection[str]) -> dict[tuple[str, str], Given]:
    """Return what nodes were given, by node and model."""
    statement = select(Assignment).where(col(Assignment.node_id).in_(node_ids))
    return {
        (row.node_id, row.model_id): Given(row.residency, row.generation, row.paused, row.unschedulable)
        for row in (await session.exec(statement)).all()
    }


async def holds(session: AsyncSession, node_ids: Collection[str]) -> dict[str, list[NodeHold]]:
    """Return the drain holds of nodes, by node, oldest first."""
    found: dict[str, list[NodeHold]] = defaultdict(list)
    statement = select(NodeHold).where(col(NodeHold.node_id).in_(node_ids)).order_by(col(NodeHold.at))
    for row in (await session.exec(statement)).all():
        found[row.node_id].append(row)
    return found


async def holds_of(session: AsyncSession, holders: Collection[str]) -> list[NodeHold]:
    """Return the drain holds of these holders."""
    statement = select(NodeHold).where(col(NodeHold.holder).in_(holders)).order_by(col(NodeHold.node_id))
    return list((await session.exec(statement)).all())


async def delete_hold(session: AsyncSession, node_id: str, holder: str) -> bool:
    """Remove a holder's hold of a node; tell whether there was one."""
    statement = delete(NodeHold).where(col(NodeHold.node_id) == node_id, col(NodeHold.holder) == holder)
    return bool((await session.exec(statement)).rowcount)


async def transitions(session: AsyncSession, node_id: str, limit: int) -> list[NodeTransition]:
    """Return the latest changes of a node's state, newest first."""
    statement = select(NodeTransition).where(NodeTransition.node_id == node_id)
    return list((await session.exec(statement.order_by(col(NodeTransition.id).desc()).limit(limit))).all())


async def keep_listening(session: AsyncSession, gap_s: int) -> None:
    """Say that somebody listens to heartbeats; start anew if nobody did for ``gap_s``."""
    row = (await session.exec(select(Listening.fresh_at < db_now(-gap_s)).where(Listening.id == 1))).first()
    if row is None:
        session.add(Listening(id=1, since=await _now(session), fresh_at=await _now(session)))
        return
    values: dict[str, Any] = {"fresh_at": db_now()} | ({"since": db_now()} if row else {})
    await session.exec(update(Listening).where(col(Listening.id) == 1).values(**values))


async def _now(session: AsyncSession) -> datetime:
    return (await session.exec(select(db_now()))).one()


async def silent_nodes(session: AsyncSession, offline_after_s: int) -> list[Node]:
    """Return the nodes that said nothing for ``offline_after_s`` while somebody listened all that time."""
    listened = select(Listening.id).where(col(Listening.since) < db_now(-offline_after_s)).exists()
    statement = select(Node).where(
        col(Node.state).in_([NodeState.ONLINE, NodeState.REGISTERING, NodeState.DRAINING, NodeState.DRAINED]),
        col(Node.last_heartbeat_at) < db_now(-offline_after_s),
        listened,
    )
    return list((await session.exec(statement.with_for_update(skip_locked=True))).all())
