"""Tables and wire schemas of fetching: who may fetch which artifact now, and which peers are not believed."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from annotated_types import Ge, MaxLen
from pydantic import StringConstraints
from sqlmodel import Field

from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.tables import ControlTable, enum_type
from control_api.kit.wire import IdStr, Out, Sha256Str, Wire

_Words = Annotated[str, StringConstraints(max_length=2000)]


class GrantState(StrEnum):
    """What became of a node's request for an artifact.

    ``parked``: another node of its site brings the artifact over the WAN; it takes no place in the queue meanwhile.
    ``handed_back``: its node has asked for the next artifact, and will report in a moment that it holds this one.
    """

    WAITING = "waiting"
    PARKED = "parked"
    GRANTED = "granted"
    HANDED_BACK = "handed_back"


class FetchGrant(ControlTable, table=True):
    """A node's request for one artifact, or leave to fetch it; the one place that limits downloads across the fleet."""

    __tablename__ = "fetch_grant"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    node_id: str = Field(foreign_key="node.id", ondelete="CASCADE", index=True, max_length=36)
    sha256: str = Field(max_length=64, index=True)
    state: GrantState = Field(default=GrantState.WAITING, sa_type=enum_type(GrantState))
    site: str | None = Field(default=None, max_length=63)
    peer_id: str | None = Field(default=None, max_length=36, description="The peer it was sent to; None: over the WAN.")
    bytes_seen: int = Field(default=0, sa_type=sa.BigInteger)
    moved_at: datetime = Field(default_factory=utcnow, description="When its node last reported more bytes.")
    asked_at: datetime = Field(default_factory=utcnow)
    expires_at: datetime = Field(index=True)


class DistrustedPeer(ControlTable, table=True):
    """A node that gave another one wrong bytes of an artifact. It is offered again once it has installed the file anew."""

    __tablename__ = "distrusted_peer"

    node_id: str = Field(foreign_key="node.id", ondelete="CASCADE", primary_key=True, max_length=36)
    sha256: str = Field(primary_key=True, max_length=64)
    installed_at: datetime | None = Field(default=None, description="When it had installed the file, as it said itself.")
    reported_by: str = Field(max_length=36)
    reason: str = Field(max_length=2000)
    at: datetime = Field(default_factory=utcnow)


class FailedSource(Wire):
    """A source that a node has tried in vain. ``corrupt``: all bytes came from it, and they have another sha256."""

    kind: Literal["peer", "hub", "pass_through"]
    node_id: IdStr | None = None
    error: _Words
    corrupt: bool = False


class FetchRequest(Wire):
    """``POST /v0/nodes/{id}/fetches``: where may this node get these bytes now?"""

    sha256: Sha256Str
    have_bytes: Annotated[int, Ge(0)] = 0
    failed: Annotated[list[FailedSource], MaxLen(64)] = []

    @property
    def failed_peers(self) -> dict[str, FailedSource]:
        """The peers that were tried in vain, by node id."""
        return {source.node_id: source for source in self.failed if source.node_id}


class FetchOut(Out):
    """Leave to fetch, with the sources to try in this order."""

    fetch_id: str
    lease_s: int
    sources: list[dict[str, Any]]


class FetchWait(Out):
    """Not yet: ask again. ``reason``: what is waited for."""

    retry_after_s: int
    position: int
    reason: str
