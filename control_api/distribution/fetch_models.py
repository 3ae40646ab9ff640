"""Tables of fetching: who may fetch which artifact now, and which peers are not believed."""

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field

from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.tables import ControlTable, enum_type


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
