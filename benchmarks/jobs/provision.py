"""How long bare hosts take to become nodes, by their number: real hosts over SSH, booted anew for each."""

import tempfile
import time
from pathlib import Path

from tests.hosts.lab import Lab
from tests.hosts.stack import Stack, running_stack

OPTIONS = ["gpu_host_require_gpu=false", "node_service_allow_cpu=true"]


def provision(counts: list[int]) -> dict[str, float] | None:
    """Return seconds by number of hosts; None where there can be no lab hosts."""
    if reason := Lab.missing():
        print(f"nothing is provisioned: {reason}")
        return None
    lab = Lab.open()
    try:
        return {str(count): _provision(lab, count) for count in counts}
    finally:
        lab.close()


def _provision(lab: Lab, count: int) -> float:
    # Hosts first: before there is one, this machine does not have the address at which they reach the control API.
    hosts = lab.boot_demo(count)
    with tempfile.TemporaryDirectory() as name, running_stack(Path(name), lab.gateway) as stack:
        took_s = _converge(stack, hosts, lab.ssh_key)
    lab.remove_hosts()
    print(f"{count} hosts: {took_s} s", flush=True)
    return took_s


def _converge(stack: Stack, hosts: dict[str, str], ssh_key: Path) -> float:
    variables = [word for option in OPTIONS for word in ("--var", option)]
    stack.muster("hosts", "credential", "lab", "--ssh-key", str(ssh_key))
    for name, address in hosts.items():
        stack.muster("hosts", "add", name, address, "--user", "ops", "--credential", "lab", *variables)
    started = time.monotonic()
    # Machine and node service, each node registered; without models, whose time is that of the network.
    stack.muster("jobs", "run", "converge.yml", *hosts, "--watch")
    return round(time.monotonic() - started, 1)
