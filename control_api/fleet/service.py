"""Rules of hosts: what Ansible reaches, with which key, and what a playbook is told of it."""

import base64
import hashlib
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.errors import BadInput, Conflict, NotFound
from control_api.fleet import repository
from control_api.fleet.hooks import FleetHooks
from control_api.fleet.models import Credential, EnrolmentTicket, Host
from control_api.fleet.schemas import (
    CredentialCreate,
    EnrolmentOut,
    HostCreate,
    HostKeyOut,
    HostOut,
    HostPatch,
    InventoryHost,
    InventoryOut,
)
from control_api.fleet.sites import addresses_at_sites
from control_api.fleet.states import HostState
from control_api.kit.bus import publish
from control_api.kit.clock import utcnow
from control_api.kit.secretbox import SecretBox, new_token, token_hash
from control_api.settings import Settings


class FleetService:
    """Manages hosts, their credentials, their pinned keys and their enrolment."""

    def __init__(self, settings: Settings, credentials_box: SecretBox, hooks: FleetHooks) -> None:
        self._settings = settings
        self._box = credentials_box
        self._hooks = hooks

    async def add_host(self, session: AsyncSession, wanted: HostCreate) -> Host:
        """Create a host. Raises ``BadInput`` for variables that are not public options of the roles."""
        if wanted.connection == "local":
            raise BadInput(
                "connection 'local' exists only for the host that `muster up` made itself.",
                code="local_connection",
                hint="Give an address that Ansible reaches over SSH.",
            )
        return await self.store_host(session, wanted)

    async def store_host(self, session: AsyncSession, wanted: HostCreate) -> Host:
        """Create a host without asking how it is connected; for ``muster up`` itself."""
        self._hooks.validate_variables(wanted.variables)
        await self._check_credential(session, wanted.credential_id)
        if await repository.hosts_by_reference(session, [wanted.name]):
            raise Conflict(f"There is a host {wanted.name!r} already.", code="host_exists")
        host = Host(**wanted.model_dump())
        session.add(host)
        await session.flush()
        _publish(session, host)
        return host

    async def change_host(self, session: AsyncSession, host_id: str, patch: HostPatch) -> Host:
        """Change what the patch names. A new address unpins the host key: it is another machine."""
        host = await self.host(session, host_id)
        changes = patch.model_dump(exclude_unset=True)
        self._hooks.validate_variables(changes.get("variables") or {})
        await self._check_credential(session, changes.get("credential_id"))
        if changes.get("address", host.address) != host.address:
            host.host_key_type = host.host_key = host.host_key_pinned_at = None
        host.sqlmodel_update(changes)
        session.add(host)
        _publish(session, host)
        return host

    async def _check_credential(self, session: AsyncSession, credential_id: str | None) -> None:
        if credential_id and not await repository.get_credential(session, credential_id):
            raise NotFound(f"No credential {credential_id!r}.", code="unknown_credential")

    async def host(self, session: AsyncSession, host_id: str) -> Host:
        """Return a host by id or name. Raises ``NotFound``."""
        return (await self.resolve_hosts(session, [host_id]))[0]

    async def resolve_hosts(self, session: AsyncSession, references: Collection[str]) -> list[Host]:
        """Return the hosts with these names or ids. Raises ``NotFound`` naming those that exist."""
        hosts = await repository.hosts_by_reference(session, references)
        known = {host.id for host in hosts} | {host.name for host in hosts}
        if missing := [r for r in references if r not in known]:
            existing = await repository.host_names(session)
            hint = f"Known hosts: {', '.join(existing)}." if existing else "There are no hosts yet: `muster hosts add`."
            raise NotFound(f"No host {', '.join(map(repr, missing[:5]))}.", code="unknown_host", hint=hint)
        return hosts

    async def out(self, session: AsyncSession, hosts: Collection[Host]) -> list[HostOut]:
        """Return hosts as callers see them."""
        node_ids = await repository.node_ids_by_host(session)
        return [HostOut(**_columns(host), host_key=host_key(host), node_id=node_ids.get(host.id)) for host in hosts]

    async def inventory(self, session: AsyncSession, host_ids: Collection[str] | None) -> InventoryOut:
        """Return what the inventory plugin reads: all hosts, or those of a job."""
        known = await repository.list_hosts(session)
        hosts = [host for host in known if host_ids is None or host.id in host_ids]
        node_ids = await repository.node_ids_by_host(session)
        entries = [InventoryHost(**_columns(host), host_key=host_key(host), node_id=node_ids.get(host.id)) for host in hosts]
        return InventoryOut(
            api_url=self._settings.public_api_url,
            router_url=self._settings.public_router_url,
            hosts=entries,
            sites=addresses_at_sites(known, of=hosts),
        )

    async def set_host_state(self, session: AsyncSession, host_ids: Collection[str], state: HostState) -> None:
        """Record what a job made of hosts."""
        await repository.set_host_state(session, host_ids, state)
        for host_id in host_ids:
            publish(session, "nodes", "host.state_changed", {"id": host_id, "state": state})

    async def pin_host_key(self, session: AsyncSession, host_id: str, line: str | None) -> Host:
        """Pin a host's key, ``type base64``; None: pin what the next contact presents."""
        host = await self.host(session, host_id)
        host.host_key_type, host.host_key = line.split() if line else (None, None)
        host.host_key_pinned_at = utcnow() if line else None
        if host.host_key:
            _fingerprint(host.host_key)
        session.add(host)
        return host

    async def enrol(self, session: AsyncSession, host_id: str | None) -> EnrolmentOut:
        """Return a one-use ticket for a host's node; without a host: for a node that waits for approval."""
        await repository.delete_old_tickets(session)
        ticket = new_token("mt")
        expires_at = utcnow() + timedelta(seconds=self._settings.ticket_ttl_s)
        session.add(EnrolmentTicket(ticket_hash=token_hash(ticket), host_id=host_id, expires_at=expires_at))
        return EnrolmentOut(ticket=ticket, expires_at=expires_at)

    async def add_credential(self, session: AsyncSession, wanted: CredentialCreate) -> Credential:
        """Store a credential, encrypted. Raises ``BadInput`` if it holds nothing or no private key."""
        if not wanted.ssh_private_key and not wanted.become_password:
            raise BadInput("Give ssh_private_key, become_password, or both.", code="empty_credential")
        if wanted.ssh_private_key and "PRIVATE KEY-----" not in wanted.ssh_private_key:
            raise BadInput("ssh_private_key is not a private key in OpenSSH or PEM form.", code="not_a_private_key")
        credential = Credential(
            name=wanted.name,
            ssh_private_key_encrypted=self._encrypt(wanted.ssh_private_key and wanted.ssh_private_key.strip() + "\n"),
            become_password_encrypted=self._encrypt(wanted.become_password),
        )
        session.add(credential)
        await session.flush()
        return credential

    def _encrypt(self, secret: str | None) -> str | None:
        return self._box.encrypt(secret) if secret else None

    async def credential_secrets(self, session: AsyncSession, credential_id: str) -> tuple[str | None, str | None]:
        """Return the SSH private key and the become password of a credential, in clear."""
        credential = await repository.get_credential(session, credential_id)
        if not credential:
            raise NotFound(f"No credential {credential_id!r}.", code="unknown_credential")
        key, password = credential.ssh_private_key_encrypted, credential.become_password_encrypted
        return key and self._box.decrypt(key), password and self._box.decrypt(password)


def _columns(host: Host) -> dict[str, Any]:
    return host.model_dump(exclude={"host_key", "host_key_type", "host_key_pinned_at"})


def _publish(session: AsyncSession, host: Host) -> None:
    publish(session, "nodes", "host.changed", {"id": host.id, "name": host.name, "state": host.state})


def host_key(host: Host) -> HostKeyOut | None:
    """Return the pinned key of a host with its fingerprint."""
    if not host.host_key or not host.host_key_type:
        return None
    fingerprint = _fingerprint(host.host_key)
    return HostKeyOut(type=host.host_key_type, key=host.host_key, fingerprint=fingerprint, pinned_at=host.host_key_pinned_at)


def _fingerprint(key: str) -> str:
    try:
        digest = hashlib.sha256(base64.b64decode(key, validate=True)).digest()
    except ValueError as error:
        raise BadInput("The host key is not valid base64.", code="bad_host_key") from error
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
