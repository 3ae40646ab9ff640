"""Wire schemas of hosts and nodes; what nodes themselves send is in ``reports``."""

import ipaddress
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, StringConstraints, field_validator

from control_api.fleet.reports import NodeError, ReadyModels, Tags
from control_api.fleet.states import Acceptance, Admission, HostState, ModelState, NodeState
from control_api.kit.wire import IdStr, NameStr, Out, Wire

_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
# For Ansible these are the controller, or groups: its own, those of the inventory, and those that the playbooks name or make.
_NOT_A_HOST = re.compile(
    r"localhost|127\.0\.0\.1|all|ungrouped|gpu_hosts|control_plane|gpu_host_switch|node_service_switch|(?:state|tag)_.*"
)
_HOSTNAME = re.compile(rf"({_LABEL}\.)*(?!(\d+|0[xX][0-9A-Fa-f]*)\.?\Z){_LABEL}\.?", re.ASCII)


def _address(value: str) -> str:
    """A name whose last part is a number is an IP address in a spelling that not everybody reads alike; so is a zone."""
    try:
        plain = getattr(ipaddress.ip_address(value), "scope_id", None) is None
    except ValueError:
        plain = _HOSTNAME.fullmatch(value) is not None
    if not plain:
        raise ValueError("must be an IP address, without a zone, or a host name")
    return value


def _host_name(value: str) -> str:
    """A play over a group would run on the host of its name instead, and leave out the group's."""
    if _NOT_A_HOST.fullmatch(value):
        raise ValueError(f"must not be {value!r}, which means something else to Ansible")
    return value


HostName = Annotated[NameStr, AfterValidator(_host_name)]
Address = Annotated[str, StringConstraints(max_length=253), AfterValidator(_address)]
Port = Annotated[int, Ge(1), Le(65535)]
UserStr = Annotated[str, StringConstraints(max_length=32, pattern=r"^[a-z_][a-z0-9_.-]*\$?$")]
PathStr = Annotated[str, StringConstraints(max_length=256, pattern=r"^/?[A-Za-z0-9_][A-Za-z0-9_./+-]*$")]
HostKeyBase64 = Annotated[str, StringConstraints(max_length=1900, pattern=r"^[A-Za-z0-9+/=]+$")]
JumpHost = Annotated[str, StringConstraints(max_length=320, pattern=r"^([a-z_][a-z0-9_-]*@)?[A-Za-z0-9][A-Za-z0-9.:-]*$")]


class HostCreate(Wire):
    """``POST /v0/hosts``."""

    name: HostName
    address: Address
    port: Port = 22
    user: UserStr | None = None
    become: bool = True
    become_exe: PathStr | None = None
    connection: Literal["ssh", "local"] = "ssh"
    python: PathStr | None = None
    jump_host: JumpHost | None = None
    credential_id: IdStr | None = None
    tags: Tags = []
    variables: dict[str, Any] = {}


class _Reached(Wire):
    """How a host is reached, as far as it is said."""

    address: Address | None = None
    port: Port | None = None
    user: UserStr | None = None
    become: bool | None = None
    become_exe: PathStr | None = None
    python: PathStr | None = None
    jump_host: JumpHost | None = None


class HostPatch(_Reached):
    """``PATCH /v0/hosts/{id}``: what is given changes, the rest stays. Null takes away what a host may be without."""

    credential_id: IdStr | None = None
    tags: Tags | None = None
    variables: dict[str, Any] | None = None

    @field_validator("address", "port", "become", "tags", "variables", mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("must not be null; leave it out to keep it as it is")
        return value


class HostAccept(_Reached):
    """``POST /v0/hosts/{id}/accept``: how the host was shown to the admin. Refused if something that is given is not so now.

    ``host_key``: its base64, without the type; null: none was pinned.
    """

    host_key: HostKeyBase64 | None = None


class HostImport(Wire):
    """``POST /v0/hosts/import``: a static Ansible inventory, YAML or INI."""

    content: Annotated[str, StringConstraints(min_length=1, max_length=1_000_000)]
    format: Literal["yaml", "ini"] = "yaml"


class HostKeyOut(Out):
    """The SSH host key that connections to a host must present."""

    type: str
    key: str
    fingerprint: str
    pinned_at: datetime | None


class HostKeyPut(Wire):
    """``PUT /v0/hosts/{id}/host-key``: pin this key, or null: pin whatever the next contact presents."""

    key: Annotated[str, StringConstraints(max_length=2048, pattern=r"^[a-z0-9@.-]{1,64} [A-Za-z0-9+/=]{1,1900}$")] | None


class InventoryHost(Out):
    """A host as the inventory plugin reads it."""

    id: str
    name: str
    address: str
    port: int
    user: str | None
    become: bool
    become_exe: str | None
    connection: str
    python: str | None
    jump_host: str | None
    host_key: HostKeyOut | None
    state: HostState
    tags: list[str]
    node_id: str | None
    variables: dict[str, Any]


class HostOut(InventoryHost):
    """A host."""

    credential_id: str | None
    created_at: datetime
    acceptance: Acceptance
    accepted_at: datetime | None
    accepted_by: str | None


class CredentialCreate(Wire):
    """``POST /v0/credentials``."""

    name: NameStr
    ssh_private_key: Annotated[str, StringConstraints(max_length=16384)] | None = None
    become_password: Annotated[str, StringConstraints(max_length=1024)] | None = None


class CredentialOut(Out):
    """A credential without its secrets."""

    id: str
    name: str
    has_ssh_key: bool
    has_become_password: bool
    created_at: datetime


class EnrolmentOut(Out):
    """A one-use ticket, shown once."""

    ticket: str
    expires_at: datetime


class InventoryOut(Out):
    """``GET /v0/inventory``, and the snapshot that a job is given.

    ``sites``: addresses of all hosts at the sites of ``hosts``, those among them that a job does not touch as well.
    """

    version: int = 1
    api_url: str
    router_url: str
    hosts: list[InventoryHost]
    sites: dict[str, list[str]]


class RegisterOut(Out):
    """The answer to a registration."""

    node_id: str
    node_token: str
    state: NodeState
    store_id: str
    heartbeat_interval_s: int
    manifest_revision: int


class HeartbeatOut(Out):
    """The answer to a heartbeat."""

    state: NodeState
    admission: Admission
    manifest_revision: int
    next_token: str | None = None


class NodeModelOut(Out):
    """A model on a node."""

    id: str
    generation: int
    state: ModelState
    progress: float
    bytes_done: int
    bytes_total: int
    speed_bps: int
    error: str | None
    source: str | None
    size: int | None
    installed_at: datetime | None
    slots: int
    in_flight: int
    device: str | None
    gpu_layers: int | None


class HoldOut(Out):
    """Why a node is held drained."""

    holder: str
    reason: str
    outlives_job: bool = False
    at: datetime


class TransitionOut(Out):
    """One change of a node's state."""

    from_state: str | None
    to_state: str
    reason: str
    at: datetime


class BreakerOut(Out):
    """A router that has taken a node out of rotation.

    ``state``: ``open``, or ``half_open`` when the next request finds out whether the node is back. ``cause``: ``unreachable``,
    ``lost`` and ``silent`` answers, an ``error`` above 499, or ``breaks_streams``.
    """

    router_id: str
    state: str
    cause: str
    since: datetime


class NodeOut(Out):
    """A node."""

    id: str
    name: str
    host_id: str | None
    base_url: str
    state: NodeState
    admission: Admission
    degraded: bool
    metrics_stale: bool
    tags: list[str]
    version: str
    instance_id: str
    hardware: dict[str, Any]
    gpus: list[dict[str, Any]]
    disk: dict[str, Any] | None
    ready_models: ReadyModels
    applied_revision: int
    manifest_revision: int
    registered_at: datetime
    last_heartbeat_at: datetime
    models: list[NodeModelOut]
    holds: list[HoldOut]
    errors: list[NodeError] = []
    breakers: list[BreakerOut] = []


class DrainRequest(Wire):
    """``POST /v0/nodes/{id}/drain``.

    ``force``: also the last ready node of a model. ``outlives_job``: if a job asks, its hold stays when it ends.
    """

    reason: Annotated[str, StringConstraints(max_length=256)] = ""
    force: bool = False
    outlives_job: bool = False


class NodePatch(Wire):
    """``PATCH /v0/nodes/{id}``."""

    tags: Tags
