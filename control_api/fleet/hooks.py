"""What the fleet tells the domains above it, in the same transaction. Wired in ``app.py``."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.principal import Principal
from control_api.fleet.models import Node
from control_api.fleet.reports import Heartbeat


async def _nothing(*_: Any) -> None:
    """Do nothing: nobody listens."""


async def _none_last(*_: Any) -> list[str]:
    return []


@dataclass(frozen=True)
class HostVariables:
    """Variables that somebody wants a host to have.

    Parameters
    ----------
    address: where the host is to be; ``moves``: it was somewhere else.
    wanted: all that it is to have; ``before``: what it has.
    by: who asks now; None: ``muster up`` itself, for the host that it makes of its own machine.
    own: those of the addresses of an import at which this machine is reached; None: to be looked up.
    """

    name: str
    address: str
    connection: str
    wanted: dict[str, Any]
    by: Principal | None
    before: dict[str, Any] = field(default_factory=dict)
    moves: bool = False
    own: Collection[str] | None = None


@dataclass(frozen=True)
class FleetHooks:
    """Callables of higher domains. Each runs in the transaction of the change it is told of."""

    host_variables: Callable[[HostVariables], Awaitable[None]] = _nothing
    node_registered: Callable[[AsyncSession, Node], Awaitable[None]] = _nothing
    heartbeat_applied: Callable[[AsyncSession, Node, Heartbeat], Awaitable[None]] = _nothing
    node_came_online: Callable[[AsyncSession, Node], Awaitable[None]] = _nothing
    node_tagged: Callable[[AsyncSession, Node], Awaitable[None]] = _nothing
    node_removed: Callable[[AsyncSession, Node], Awaitable[None]] = _nothing
    renew_fetches: Callable[[AsyncSession, str, Heartbeat], Awaitable[None]] = _nothing
    is_last_ready: Callable[[AsyncSession, str], Awaitable[list[str]]] = _none_last
