"""Where the demo runs: on this machine as its own host, or on real hosts with sshd and systemd."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread

from control_api.client import Client
from control_api.client.schemas import HostCreate, HostPatch
from control_api.firststart import LOCAL_HOST
from demo.display import StageFailed


@dataclass(frozen=True)
class Site:
    """The hosts of the demo, and the address at which they reach this machine."""

    bind: str = "127.0.0.1"
    address: str = "127.0.0.1"
    hosts: dict[str, str] = field(default_factory=dict)
    ssh_key: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether this machine is the host."""
        return not self.hosts

    def write_data(self, folder: Path, variables: dict[str, Any]) -> None:
        """Write options that the API gives to no machine of its own, as whoever runs a control plane writes the site's data."""
        file = folder / "host_vars" / f"{LOCAL_HOST}.yml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(variables))

    async def add_hosts(self, client: Client, variables: dict[str, Any]) -> list[str]:
        """Make the hosts known with these options of the roles; return their names."""
        if self.is_local or not self.ssh_key:
            host = await client.hosts.get(LOCAL_HOST)
            # What a demo of an earlier release stored; it is in the site's data now.
            stored = {name: value for name, value in host.variables.items() if name != "node_service_port"}
            await client.hosts.patch(host.id, HostPatch(variables=stored | variables))
            return [LOCAL_HOST]
        credential = await client.credentials.create("lab", self.ssh_key.read_text(), None)
        cpu = {"gpu_host_require_gpu": False, "node_service_allow_cpu": True}
        for name, address in self.hosts.items():
            wanted = {"name": name, "address": address, "user": "ops", "credential_id": credential.id}
            await client.hosts.create(HostCreate(**wanted, variables=cpu | variables))
        return list(self.hosts)


@asynccontextmanager
async def site(hosts: int) -> AsyncIterator[Site]:
    """Yield where the demo runs; real hosts are booted first and removed afterwards."""
    if hosts == 0:
        yield Site()
        return
    if os.geteuid() != 0:
        raise StageFailed("Real hosts need root and podman. Run as root, or without HOSTS.")
    from tests.hosts.lab import Lab

    lab = await anyio.to_thread.run_sync(Lab.open)
    try:
        booted = await anyio.to_thread.run_sync(lab.boot_demo, hosts)
        yield Site(bind="0.0.0.0", address=lab.gateway, hosts=booted, ssh_key=lab.ssh_key)
    finally:
        await anyio.to_thread.run_sync(lab.close)
