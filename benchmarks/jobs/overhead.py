"""A job beside the same ``ansible-playbook`` by hand, in turn, with the same inventory on this machine.

A job is timed from the request that asks for it to the live event that says how it ended. In the job, a task writes down the
time, and so does the client that sees it.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.jobs.site import control_plane, make_project
from control_api.client import Client
from control_api.client.schemas import JobCreate, JobStatus

HOST = "local"
# One play with a host's work in it: a stamp, a pause, and again.
PLAYBOOK = """---
- name: Stamps
  hosts: gpu_hosts
  gather_facts: false
  tasks:
"""
STAMP = """    - name: Stamp {number}
      ansible.builtin.debug:
        msg: "at={{{{ lookup('pipe', 'date +%s.%N') }}}}="
    - name: Rest {number}
      ansible.builtin.command: sleep 0.3
      changed_when: false
"""
STAMPS = 5


@dataclass
class Times:
    """What was measured, in seconds."""

    plain: list[float] = field(default_factory=list)
    job: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)


async def by_hand(project: Path, snapshot: Path) -> float:
    """Run the playbook as a person does; return how long it took."""
    environment = os.environ | {"ANSIBLE_CONFIG": str(project / "ansible.cfg"), "MUSTER_INVENTORY_SNAPSHOT": str(snapshot)}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--diff", "-i", str(project / "inventory/muster.yml")]
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command, str(project / "playbooks/site.yml"), env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    if await asyncio.wait_for(process.wait(), 120):
        sys.exit("ansible-playbook failed.")
    return time.monotonic() - started


async def as_job(client: Client, times: Times) -> float:
    """Run the playbook as a job and note when its stamps were seen; return how long it took."""
    started = time.monotonic()
    job = await client.jobs.create(JobCreate(playbook="site.yml", hosts=[HOST]))
    async with aclosing(client.events(["jobs", f"job:{job.id}"])) as events:
        async for event in events:
            stamp = str(event.data.get("stdout", "")).partition("at=")[2].partition("=")[0]
            if stamp:
                times.seen.append(time.time() - float(stamp))
            if event.type == "job.updated" and event.data["id"] == job.id and JobStatus(event.data["status"]).is_final:
                break
    took_s = time.monotonic() - started
    if (ended := await client.jobs.get(job.id)).status is not JobStatus.SUCCESSFUL:
        sys.exit(f"The job is {ended.status}: {ended.reason}")
    return took_s


async def _measure(rounds: int) -> Times:
    """Measure both in turn; a first round of each warms up and does not count."""
    times = Times()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = make_project(folder, PLAYBOOK + "".join(STAMP.format(number=number) for number in range(STAMPS)))
        async with control_plane(folder) as client:
            snapshot = folder / "inventory.json"
            warm = await client.jobs.create(JobCreate(playbook="site.yml", hosts=[HOST]))
            async with aclosing(client.jobs.follow(warm.id)) as events:
                async for _ in events:
                    pass
            snapshot.write_text(json.dumps((await client.jobs.inventory(warm.id)).model_dump(mode="json")))
            await by_hand(project, snapshot)
            for number in range(rounds):
                times.plain.append(await by_hand(project, snapshot))
                times.job.append(await as_job(client, times))
                print(f"round {number + 1}: by hand {times.plain[-1]:.2f} s, as a job {times.job[-1]:.2f} s", flush=True)
    return times


def overhead(rounds: int) -> dict[str, float]:
    """Measure, say what came of each round, and return the figures."""
    times = asyncio.run(_measure(rounds))
    print(f"stamps seen after {median(times.seen):.2f} s, the last of {len(times.seen)} after {max(times.seen):.2f} s")
    more = median(job - plain for job, plain in zip(times.job, times.plain, strict=True))
    return {"job_overhead_s": round(more, 3), "event_to_websocket_s": round(median(times.seen), 3)}
