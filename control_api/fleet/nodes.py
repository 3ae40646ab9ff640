"""Rules of nodes: registration, approval, drains, and every change of state."""

import ipaddress
from collections.abc import Awaitable, Callable

from pydantic import HttpUrl
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.principal import Principal, check_scope
from control_api.access.schemas import Scope
from control_api.errors import BadInput, Conflict, Forbidden, NotFound, Unauthenticated
from control_api.fleet import holds, repository
from control_api.fleet.hooks import FleetHooks
from control_api.fleet.models import Host, Node, NodeTransition
from control_api.fleet.reports import RegisterRequest
from control_api.fleet.schemas import DrainRequest
from control_api.fleet.states import Admission, NodeState
from control_api.fleet.transitions import set_state
from control_api.kit import revision
from control_api.kit.bus import publish
from control_api.kit.clock import utcnow
from control_api.kit.secretbox import SecretBox, new_token, token_hash
from control_api.settings import Settings

# As the role has it; a test holds them against each other.
PORT_VARIABLE, DEFAULT_PORT = "node_service_port", 8090

RightsOf = Callable[[AsyncSession, str | None], Awaitable[Principal]]


class NodeService:
    """Manages nodes. Identity is the host of the ticket, never what a node says of itself."""

    def __init__(self, settings: Settings, routing_box: SecretBox, hooks: FleetHooks) -> None:
        self._settings = settings
        self._box = routing_box
        self.hooks = hooks

    async def register(
        self, session: AsyncSession, ticket: str, wanted: RegisterRequest, rights_of: RightsOf
    ) -> tuple[Node, str]:
        """Register a node with a one-use ticket and return it with its new token.

        Raises ``Unauthenticated`` for a ticket that is unknown, used or expired, or whose asker may not enrol any more,
        ``BadInput`` for a ``base_url`` that is not the host's, ``Conflict`` if a node of another host has the name.
        """
        used = await repository.use_ticket(session, token_hash(ticket))
        if not used:
            raise _bad_ticket("is unknown, used or expired")
        try:
            asker = await rights_of(session, used.asker)
            check_scope(asker, Scope.OPERATE if used.host_id else Scope.ADMIN)
        except (Unauthenticated, Forbidden) as error:
            raise _bad_ticket("is of somebody who may not enrol nodes any more") from error
        host = await repository.get_host(session, used.host_id) if used.host_id else None
        self._check_base_url(host, wanted.base_url)
        # Options of a job are checked where it is asked for; whoever else holds a ticket may send whatever they like.
        is_checked = used.for_job or Scope.ADMIN in asker.scopes
        existing = await repository.node_of_host(session, host.id) if host else None
        if host and not is_checked:
            _check_way(host, existing, wanted.base_url)
        node = self._again(session, existing) if existing else await self._new(session, host, wanted, may_tag=is_checked)
        token = new_token("mn")
        self._fill(node, wanted, token)
        session.add(node)
        await session.flush()
        await self.hooks.node_registered(session, node)
        await revision.bump(session, revision.ROUTES)
        publish(session, "nodes", "node.registered", {"id": node.id, "name": node.name, "state": node.state})
        return node, token

    def _again(self, session: AsyncSession, node: Node) -> Node:
        node.admission = Admission.OPEN if node.admission is Admission.PENDING else node.admission
        set_state(session, node, NodeState.REGISTERING, "registered again")
        return node

    async def _new(self, session: AsyncSession, host: Host | None, wanted: RegisterRequest, *, may_tag: bool) -> Node:
        name = host.name if host else wanted.name
        if await repository.node_by_name(session, name):
            raise Conflict(
                f"There is a node {name!r} already.", code="node_exists", hint="Delete it first, or choose another name."
            )
        admission = Admission.OPEN if host else Admission.PENDING
        state = NodeState.REGISTERING if host else NodeState.PENDING
        given = set(host.tags if host else [])
        left_out = set() if may_tag else set(wanted.tags) - given
        # What is left empty here ``_fill`` replaces before the row is written.
        node = Node(
            host_id=host.id if host else None,
            name=name,
            admission=admission,
            state=state,
            tags=sorted({*given, *wanted.tags} - left_out),
            base_url="",
            version="",
            instance_id="",
            inference_key_encrypted="",
            token_hash="",
            hardware={},
        )
        reason = f"registered, without {', '.join(sorted(left_out))}: an admin sets tags" if left_out else "registered"
        session.add(NodeTransition(node_id=node.id, to_state=state, reason=reason[:256]))
        return node

    def _fill(self, node: Node, wanted: RegisterRequest, token: str) -> None:
        node.base_url = str(wanted.base_url).rstrip("/")
        node.version = wanted.version
        node.instance_id, node.heartbeat_seq, node.was_online, node.applied_revision = wanted.instance_id, 0, False, 0
        node.inference_key_encrypted = self._box.encrypt(wanted.inference_key)
        node.hardware = wanted.hardware.model_dump()
        node.token_hash, node.next_token_hash, node.token_issued_at = token_hash(token), None, utcnow()
        node.registered_at = node.last_heartbeat_at = utcnow()

    def _check_base_url(self, host: Host | None, base_url: HttpUrl) -> None:
        """Prompts go to this address: a host's node is at the host, and one without a host in a network of the site."""
        named = _normal(base_url.host or "")
        if base_url.username or base_url.password or base_url.query or base_url.fragment:
            raise BadInput("base_url is an address with a port and perhaps a path, nothing more.", code="base_url_not_allowed")
        if host and named != _normal(host.address):
            raise BadInput(
                f"base_url names {named!r}, which is not the address of host {host.name!r}.",
                code="base_url_not_allowed",
                hint=f"The node has to be reached at {host.address}, as the host is.",
                details={"host_address": host.address},
            )
        if not host and not self._in_node_networks(named):
            raise BadInput(
                f"base_url names {named!r}, which is not in MUSTER_NODE_NETWORKS.",
                code="base_url_not_allowed",
                details={"node_networks": self._settings.node_networks},
            )

    def _in_node_networks(self, named: str) -> bool:
        try:
            address = ipaddress.ip_address(named)
        except ValueError:
            return False  # a name says nothing of where it leads
        return any(address in ipaddress.ip_network(network, strict=False) for network in self._settings.node_networks)

    async def node(self, session: AsyncSession, node_id: str) -> Node:
        """Return a node by id or name. Raises ``NotFound``."""
        node = await repository.get_node(session, node_id) or await repository.node_by_name(session, node_id)
        if not node:
            raise NotFound(f"No node {node_id!r}.", code="unknown_node")
        return node

    async def approve(self, session: AsyncSession, node_id: str) -> Node:
        """Let a pending node in. Approving one that is in already changes nothing."""
        node = await self.node(session, node_id)
        if node.admission is Admission.PENDING:
            await holds.admit(session, node, Admission.OPEN, "approved")
        return node

    async def drain(self, session: AsyncSession, node_id: str, by: Principal, wanted: DrainRequest) -> Node:
        """Hold a node drained. Raises ``Conflict`` for the last ready node of a model, unless forced."""
        node = await self.node(session, node_id)
        by.check_host(node.host_id)
        if node.admission is Admission.PENDING:
            raise Conflict(f"Node {node.name!r} is not approved yet.", code="node_pending")
        models = [] if wanted.force else await self.hooks.is_last_ready(session, node.id)
        if models:
            named = ", ".join(models[:5])
            hint = "Make another node ready first, or use force."
            raise Conflict(
                f"{node.name!r} is the last ready node of {named}.", code="last_ready_node", hint=hint, details=models
            )
        await holds.hold(session, node, by.holder, wanted.reason, outlives_job=wanted.outlives_job)
        return node

    async def resume(self, session: AsyncSession, node_id: str, by: Principal, *, all_holds: bool) -> Node:
        """Remove the caller's hold (or all); the node is open again when its last hold is gone."""
        node = await self.node(session, node_id)
        by.check_host(node.host_id)
        await holds.release(session, node, None if all_holds else {by.holder}, f"resumed by {by.label}")
        return node

    async def remove(self, session: AsyncSession, node: Node) -> None:
        """Forget a node and everything it reported; its token is refused from now on."""
        await self.hooks.node_removed(session, node)
        await session.delete(node)
        await revision.bump(session, revision.ROUTES)
        publish(session, "nodes", "node.removed", {"id": node.id, "name": node.name})


def _check_way(host: Host, existing: Node | None, base_url: HttpUrl) -> None:
    """Raise ``BadInput`` unless a node stays where it is at its host, or comes to where the host's variables have it.

    At another port of the host somebody else may listen, so ports are an admin's to choose.
    """
    known = _way(HttpUrl(existing.base_url)) if existing else ("http", host.variables.get(PORT_VARIABLE, DEFAULT_PORT), "")
    if _way(base_url) != known:
        scheme, port, path = known
        raise BadInput(
            f"base_url is {base_url}; the node of host {host.name!r} is reached by {scheme} at port {port}{path}.",
            code="base_url_not_allowed",
            hint=f"Let an admin set {PORT_VARIABLE} for the host, or enrol the node with an admin's key or a job.",
        )


def _way(base_url: HttpUrl) -> tuple[str, int | None, str]:
    return base_url.scheme, base_url.port, (base_url.path or "").rstrip("/")


def _normal(address: str) -> str:
    """Return an address as it is compared: one spelling for each."""
    try:
        return str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        return address.lower().rstrip(".")


def _bad_ticket(why: str) -> Unauthenticated:
    return Unauthenticated(f"The enrolment ticket {why}.", code="bad_ticket", hint="Run the playbook again.")
