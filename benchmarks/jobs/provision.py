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
        with tempfile.TemporaryDirectory() as name, running_stack(Path(name), lab.gateway) as stack:
            stack.muster("hosts", "credential", "lab", "--ssh-key", str(lab.ssh_key))
            return {str(count): _provision(lab, stack, count) for count in counts}
    finally:
        lab.close()


def _provision(lab: Lab, stack: Stack, count: int) -> float:
    variables = [word for option in OPTIONS for word in ("--var", option)]
    names = []
    for name, address in lab.boot_demo(count).items():
        names.append(f"of-{count}-{name}")
        stack.muster("hosts", "add", names[-1], address, "--user", "ops", "--credential", "lab", *variables)
    started = time.monotonic()
    # Machine and node service, each node registered; without models, whose time is that of the network.
    stack.muster("jobs", "run", "converge.yml", *names, "--watch")
    took_s = round(time.monotonic() - started, 1)
    print(f"{count} hosts: {took_s} s", flush=True)
    lab.remove_hosts()
    return took_s
