"""HTTP of hosts, credentials, enrolment and the inventory."""

from fastapi import APIRouter, Request, Response

from control_api.access.principal import Admin, Operator, OperatorOrJob, Reader, ReaderOrJob
from control_api.errors import Conflict, NotFound
from control_api.fleet import repository
from control_api.fleet.models import Credential
from control_api.fleet.nodes import NodeService
from control_api.fleet.pinned import host_key
from control_api.fleet.schemas import (
    CredentialCreate,
    CredentialOut,
    EnrolmentOut,
    HostAccept,
    HostCreate,
    HostImport,
    HostKeyOut,
    HostKeyPut,
    HostOut,
    HostPatch,
    InventoryOut,
)
from control_api.fleet.service import FleetService
from control_api.kit.addresses import own_of
from control_api.kit.http import ReadSession, WriteSession
from control_api.kit.paging import Cursor, Limit
from control_api.kit.wire import Page

router = APIRouter(prefix="/v0", tags=["hosts"])


def _fleet(request: Request) -> FleetService:
    fleet: FleetService = request.state.fleet
    return fleet


def _nodes(request: Request) -> NodeService:
    nodes: NodeService = request.state.nodes
    return nodes


@router.get("/hosts")
async def list_hosts(
    request: Request, _: Reader, session: ReadSession, cursor: Cursor = None, limit: Limit = 100
) -> Page[HostOut]:
    """List hosts by name."""
    rows, following = await repository.page_hosts(session, cursor, limit)
    return Page(items=await _fleet(request).out(session, rows), next_cursor=following)


@router.post("/hosts", status_code=201)
async def add_host(request: Request, body: HostCreate, principal: Operator, session: WriteSession) -> HostOut:
    """Add a machine that Ansible reaches over SSH. Unless an admin adds it, it is proposed, and nothing reaches it yet."""
    host = await _fleet(request).add_host(session, body, principal)
    return (await _fleet(request).out(session, [host]))[0]


@router.post("/hosts/import", status_code=201)
async def import_hosts(request: Request, body: HostImport, principal: Operator) -> Page[HostOut]:
    """Add the hosts of a static Ansible inventory: all of them, or none and the reasons."""
    # Before the transaction: others write meanwhile. All names at once take a slow name server no longer than one.
    wanted = await _fleet(request).read_inventory(body)
    own = await own_of(host.address for host in wanted if host.variables)
    async with request.state.database.control.write() as session:
        hosts = [await _fleet(request).add_host(session, host, principal, own=own) for host in wanted]
        return Page(items=await _fleet(request).out(session, hosts))


@router.get("/hosts/{host_id}")
async def get_host(request: Request, host_id: str, principal: ReaderOrJob, session: ReadSession) -> HostOut:
    """Show a host, by id or name."""
    host = await _fleet(request).host(session, host_id)
    principal.check_host(host.id)
    return (await _fleet(request).out(session, [host]))[0]


@router.patch("/hosts/{host_id}")
async def change_host(request: Request, host_id: str, body: HostPatch, principal: Operator, session: WriteSession) -> HostOut:
    """Change what is given, keep the rest. Tags, credential, and how an accepted host is reached are an admin's to change."""
    host = await _fleet(request).change_host(session, host_id, body, principal)
    return (await _fleet(request).out(session, [host]))[0]


@router.post("/hosts/{host_id}/accept")
async def accept_host(
    request: Request, host_id: str, principal: Admin, session: WriteSession, body: HostAccept | None = None
) -> HostOut:
    """Say that a proposed host is one of ours: from now on jobs, tickets and secrets reach it. Again: changes nothing."""
    host = await _fleet(request).accept_host(session, host_id, body or HostAccept(), principal)
    return (await _fleet(request).out(session, [host]))[0]


@router.delete("/hosts/{host_id}", status_code=204)
async def delete_host(request: Request, host_id: str, _: Operator, session: WriteSession) -> Response:
    """Forget a host and its node. Nothing on the machine is changed."""
    host = await _fleet(request).host(session, host_id)
    if await request.state.host_is_busy(session, host.id):
        raise Conflict(f"A job is working on {host.name!r}.", code="host_busy", hint="Wait for it, or cancel it.")
    if node := await repository.node_of_host(session, host.id):
        await _nodes(request).remove(session, node)
    await session.delete(host)
    return Response(status_code=204)


@router.get("/hosts/{host_id}/host-key")
async def get_host_key(request: Request, host_id: str, _: Reader, session: ReadSession) -> HostKeyOut:
    """Show the pinned SSH host key."""
    key = host_key(await _fleet(request).host(session, host_id))
    if not key:
        raise NotFound("No host key is pinned yet: the first contact pins it.", code="no_host_key")
    return key


@router.put("/hosts/{host_id}/host-key")
async def put_host_key(request: Request, host_id: str, body: HostKeyPut, principal: Operator, session: WriteSession) -> HostOut:
    """Pin a key, or null: accept and pin what the next contact presents. Of an accepted host it is an admin's to change."""
    host = await _fleet(request).pin_host_key(session, host_id, body.key, principal)
    return (await _fleet(request).out(session, [host]))[0]


@router.post("/hosts/{host_id}/enrolment", status_code=201)
async def enrol(
    request: Request, host_id: str, principal: OperatorOrJob, session: WriteSession, force: bool = False
) -> EnrolmentOut:
    """Return a one-use ticket with which the host's node registers."""
    host = await _fleet(request).host(session, host_id)
    principal.check_host(host.id)
    node = await repository.node_of_host(session, host.id)
    if node and not force:
        hint = "Use force=true if the node has lost its token."
        raise Conflict(f"Host {host.name!r} has a registered node.", code="already_registered", hint=hint)
    return await _fleet(request).enrol(session, host, principal)


@router.post("/enrolments", status_code=201)
async def enrol_pending(request: Request, principal: Admin, session: WriteSession) -> EnrolmentOut:
    """Return a one-use token for a node on no host of ours; it waits for approval."""
    return await _fleet(request).enrol(session, None, principal)


@router.get("/inventory")
async def inventory(request: Request, principal: ReaderOrJob, session: ReadSession) -> InventoryOut:
    """Return what the Ansible inventory plugin reads: the accepted hosts; a job sees its own."""
    return await _fleet(request).inventory(session, principal.host_ids if principal.kind == "job" else None)


@router.get("/credentials")
async def list_credentials(_: Reader, session: ReadSession, cursor: Cursor = None, limit: Limit = 100) -> Page[CredentialOut]:
    """List credentials, without their secrets."""
    rows, following = await repository.page_credentials(session, cursor, limit)
    return Page(items=[_credential_out(row) for row in rows], next_cursor=following)


@router.post("/credentials", status_code=201)
async def add_credential(request: Request, body: CredentialCreate, _: Admin, session: WriteSession) -> CredentialOut:
    """Store an SSH key and, if sudo asks for one, a password. Encrypted, never shown again."""
    return _credential_out(await _fleet(request).add_credential(session, body))


@router.delete("/credentials/{credential_id}", status_code=204)
async def delete_credential(credential_id: str, _: Admin, session: WriteSession) -> Response:
    """Delete a credential that no host uses."""
    credential = await repository.get_credential(session, credential_id)
    if not credential:
        raise NotFound(f"No credential {credential_id!r}.", code="unknown_credential")
    await session.delete(credential)
    return Response(status_code=204)


def _credential_out(row: Credential) -> CredentialOut:
    return CredentialOut(
        id=row.id,
        name=row.name,
        has_ssh_key=row.ssh_private_key_encrypted is not None,
        has_become_password=row.become_password_encrypted is not None,
        created_at=row.created_at,
    )
