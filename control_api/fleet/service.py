"""Rules of hosts: what Ansible reaches, with which key, and what a playbook is told of it."""

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.principal import Principal
from control_api.access.schemas import Scope
from control_api.errors import BadInput, Conflict, NotFound
from control_api.fleet import acceptance, repository
from control_api.fleet.hooks import FleetHooks, HostVariables
from control_api.fleet.models import Credential, EnrolmentTicket, Host
from control_api.fleet.pinned import fingerprint, host_key
from control_api.fleet.schemas import (
    CredentialCreate,
    EnrolmentOut,
    HostAccept,
    HostCreate,
    HostImport,
    HostOut,
    HostPatch,
    InventoryHost,
    InventoryOut,
)
from control_api.fleet.sites import addresses_at_sites
from control_api.fleet.states import HostState
from control_api.fleet.static_inventory import read_hosts
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
        self._reading = asyncio.Lock()

    async def add_host(
        self, session: AsyncSession, wanted: HostCreate, by: Principal, *, own: Collection[str] | None = None
    ) -> Host:
        """Create a host: an admin's is accepted at once, an operator's is proposed.

        Parameters
        ----------
        own: those of the addresses of an import at which this machine is reached; None: to be looked up.

        Raises ``BadInput`` for variables that nobody sets here, and ``Forbidden`` for what only admins may set.
        """
        if wanted.connection == acceptance.LOCAL:
            raise BadInput(
                "connection 'local' exists only for the host that `muster up` made itself.",
                code="local_connection",
                hint="Give an address that Ansible reaches over SSH.",
            )
        acceptance.check_may_change((name for name, value in wanted if value), by)
        accepted_by = by.label if Scope.ADMIN in by.scopes else None
        return await self.store_host(session, wanted, accepted_by=accepted_by, by=by, own=own)

    async def read_inventory(self, wanted: HostImport) -> list[HostCreate]:
        """Return the hosts of a static inventory; one at a time is read, beside the loop. Raises ``BadInput``."""
        if self._reading.locked():
            raise Conflict("Another inventory is being imported.", code="import_busy", hint="Try again in some seconds.")
        async with self._reading:
            return await asyncio.to_thread(read_hosts, wanted.content, wanted.format)

    async def store_host(
        self,
        session: AsyncSession,
        wanted: HostCreate,
        *,
        accepted_by: str | None,
        by: Principal | None = None,
        own: Collection[str] | None = None,
    ) -> Host:
        """Create a host without asking how it is connected; ``by``: None for ``muster up`` itself."""
        given = HostVariables(wanted.name, wanted.address, wanted.connection, wanted.variables, by, own=own)
        await self._hooks.host_variables(given)
        await self._check_credential(session, wanted.credential_id)
        # Hosts of one import have different names, and are written in one statement.
        with session.no_autoflush:
            if await repository.hosts_by_reference(session, [wanted.name]):
                raise Conflict(f"There is a host {wanted.name!r} already.", code="host_exists")
        host = Host(**wanted.model_dump(), accepted_at=utcnow() if accepted_by else None, accepted_by=accepted_by)
        session.add(host)
        _publish(session, host)
        return host

    async def change_host(self, session: AsyncSession, host_id: str, patch: HostPatch, by: Principal) -> Host:
        """Change what the patch names. A new address unpins the host key: it is another machine.

        Raises ``Forbidden`` for what only admins may change.
        """
        host = await self._locked(session, host_id)
        changes = {name: value for name, value in patch.model_dump(exclude_unset=True).items() if getattr(host, name) != value}
        acceptance.check_may_change(changes, by, host)
        acceptance.check_own_host(changes, host)
        await self._check_variables(host, changes, by)
        await self._check_credential(session, changes.get("credential_id"))
        if "address" in changes:
            host.host_key_type = host.host_key = host.host_key_pinned_at = None
        host.sqlmodel_update(changes)
        session.add(host)
        _publish(session, host)
        return host

    async def accept_host(self, session: AsyncSession, host_id: str, seen: HostAccept, by: Principal) -> Host:
        """Say that a proposed host is one of ours; one that is accepted stays as it is. Raises ``Conflict`` if it changed."""
        host = await self._locked(session, host_id)
        acceptance.check_as_seen(host, seen)
        if not host.accepted_at:
            host.accepted_at, host.accepted_by = utcnow(), by.label
            session.add(host)
            _publish(session, host)
        return host

    async def _locked(self, session: AsyncSession, host_id: str) -> Host:
        """Return a host that nobody else changes in the meantime: what is checked of it is what is written."""
        host = await self.host(session, host_id)
        await session.refresh(host, with_for_update=True)
        return host

    async def _check_variables(self, host: Host, changes: dict[str, Any], by: Principal) -> None:
        change = HostVariables(
            host.name,
            changes.get("address", host.address),
            host.connection,
            changes.get("variables", host.variables),
            by,
            before=host.variables,
            moves="address" in changes,
        )
        await self._hooks.host_variables(change)

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
        return [
            HostOut(**_columns(host), host_key=host_key(host), node_id=node_ids.get(host.id), acceptance=host.acceptance)
            for host in hosts
        ]

    async def inventory(self, session: AsyncSession, host_ids: Collection[str] | None) -> InventoryOut:
        """Return what the inventory plugin reads: all accepted hosts, or those of a job."""
        known = await repository.accepted_hosts(session)
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

    async def pin_host_key(self, session: AsyncSession, host_id: str, line: str | None, by: Principal) -> Host:
        """Pin a host's key, ``type base64``; None: pin what the next contact presents. Raises ``Forbidden``."""
        host = await self._locked(session, host_id)
        acceptance.check_may_change(["host_key"], by, host)
        host.host_key_type, host.host_key = line.split() if line else (None, None)
        host.host_key_pinned_at = utcnow() if line else None
        if host.host_key:
            fingerprint(host.host_key)
        session.add(host)
        return host

    async def enrol(self, session: AsyncSession, host: Host | None, by: Principal) -> EnrolmentOut:
        """Return a one-use ticket for a host's node; without a host: for a node that waits for approval.

        Raises ``Conflict`` for a host that is only proposed.
        """
        acceptance.check_accepted([host] if host else [])
        await repository.delete_old_tickets(session)
        ticket = new_token("mt")
        expires_at = utcnow() + timedelta(seconds=self._settings.ticket_ttl_s)
        made = EnrolmentTicket(ticket_hash=token_hash(ticket), host_id=host.id if host else None, expires_at=expires_at)
        made.asker, made.for_job = by.asker, by.kind == "job"
        session.add(made)
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
