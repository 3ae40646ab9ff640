"""Hosts and nodes."""

from collections.abc import Sequence
from typing import Literal

from pydantic import TypeAdapter

from control_api.client.http import Http, part
from control_api.client.schemas import AssignmentOut, CredentialOut, HostAccept, HostCreate, HostOut, HostPatch, NodeOut, Page


class Hosts:
    """``/v0/hosts``. A host is named by its id."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> list[HostOut]:
        """Return all hosts."""
        return [host async for host in self._http.items(HostOut, "/v0/hosts")]

    async def get(self, host_id: str) -> HostOut:
        """Return one host."""
        return await self._http.get(HostOut, f"/v0/hosts/{part(host_id)}")

    async def create(self, host: HostCreate) -> HostOut:
        """Add a host."""
        return await self._http.post(HostOut, "/v0/hosts", host)

    async def patch(self, host_id: str, patch: HostPatch) -> HostOut:
        """Change what ``patch`` sets; the rest stays."""
        response = await self._http.send("PATCH", f"/v0/hosts/{part(host_id)}", json=patch)
        return HostOut.model_validate_json(response.content)

    async def accept(self, host: HostOut) -> HostOut:
        """Say that a proposed host is one of ours, as it is given; refused if it is no longer so."""
        connection = host.model_dump(include=set(HostAccept.model_fields) - {"host_key"})
        seen = HostAccept(**connection, host_key=host.host_key and host.host_key.key)
        return await self._http.post(HostOut, f"/v0/hosts/{part(host.id)}/accept", seen)

    async def delete(self, host_id: str) -> None:
        """Forget a host."""
        await self._http.send("DELETE", f"/v0/hosts/{part(host_id)}")

    async def import_static(self, content: str, kind: Literal["yaml", "ini"]) -> Sequence[HostOut]:
        """Add the hosts of a static Ansible inventory: all of them or none."""
        page = await self._http.post(Page[HostOut], "/v0/hosts/import", {"content": content, "format": kind})
        return page.items

    async def put_host_key(self, host_id: str, key: str | None) -> HostOut:
        """Pin an SSH host key (``type base64``), or None: whatever the next contact presents."""
        response = await self._http.send("PUT", f"/v0/hosts/{part(host_id)}/host-key", json={"key": key})
        return HostOut.model_validate_json(response.content)


class Credentials:
    """``/v0/credentials``: what hosts may name to be reached, without the secrets."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> list[CredentialOut]:
        """Return all credentials."""
        return [credential async for credential in self._http.items(CredentialOut, "/v0/credentials")]

    async def create(self, name: str, ssh_private_key: str | None, become_password: str | None) -> CredentialOut:
        """Store an SSH key, a become password, or both."""
        body = {"name": name, "ssh_private_key": ssh_private_key, "become_password": become_password}
        return await self._http.post(CredentialOut, "/v0/credentials", body)


class Nodes:
    """``/v0/nodes``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> list[NodeOut]:
        """Return all nodes."""
        return [node async for node in self._http.items(NodeOut, "/v0/nodes")]

    async def get(self, node_id: str) -> NodeOut:
        """Return one node."""
        return await self._http.get(NodeOut, f"/v0/nodes/{part(node_id)}")

    async def approve(self, node_id: str) -> NodeOut:
        """Let a pending node in."""
        return await self._http.post(NodeOut, f"/v0/nodes/{part(node_id)}/approve")

    async def drain(self, node_id: str, *, reason: str = "", force: bool = False) -> NodeOut:
        """Hold a node back from new work. ``force``: also the last ready node of a model."""
        return await self._http.post(NodeOut, f"/v0/nodes/{part(node_id)}/drain", {"reason": reason, "force": force})

    async def resume(self, node_id: str, *, all_holds: bool = False) -> NodeOut:
        """Remove one's own hold; ``all_holds``: everybody's."""
        return await self._http.post(NodeOut, f"/v0/nodes/{part(node_id)}/resume", all_holds=all_holds or None)

    async def patch(self, node_id: str, *, tags: Sequence[str]) -> NodeOut:
        """Replace a node's tags."""
        response = await self._http.send("PATCH", f"/v0/nodes/{part(node_id)}", json={"tags": list(tags)})
        return NodeOut.model_validate_json(response.content)

    async def assignments(self, node_id: str) -> Sequence[AssignmentOut]:
        """Return the models that shall be on a node, with why one is not, or is loaded on demand."""
        response = await self._http.send("GET", f"/v0/nodes/{part(node_id)}/assignments")
        return TypeAdapter(Sequence[AssignmentOut]).validate_json(response.content)

    async def delete(self, node_id: str) -> None:
        """Forget a node; its token stops working."""
        await self._http.send("DELETE", f"/v0/nodes/{part(node_id)}")
