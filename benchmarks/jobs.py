"""Measures jobs beside ``ansible-playbook`` by hand: ``python -m benchmarks.jobs``. The last line is one JSON object.

Both run the same playbook on this machine with the same inventory, in turn. A job is timed from the request that asks for it to
the live event that says how it ended. In the job, a task writes down the time, and so does the client that sees it.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.processes import Process, free_port
from control_api.client import Client
from control_api.client.schemas import JobCreate, JobStatus

PROJECT = Path(__file__).parents[1]
KEY = "mk_" + "b" * 43
HOST = "local"
START_LIMIT_S = 60
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


@asynccontextmanager
async def control_plane(folder: Path) -> AsyncIterator[Client]:
    """Run a control API with its worker, whose project has this benchmark's playbook only."""
    port = free_port()
    environment = {
        "MUSTER_STATE_DIR": str(folder / "state"),
        "MUSTER_CACHE_DIR": str(folder / "cache"),
        "MUSTER_PROJECT_DIR": str(folder / "project"),
        "MUSTER_BOOTSTRAP_API_KEY": KEY,
        "MUSTER_API_PORT": str(port),
    }
    argv = [sys.executable, "-m", "control_api.cli", "serve", "api", "--with-worker", "--local-node"]
    api = Process(argv, folder=folder / "api", cpus=f"0-{(os.cpu_count() or 1) - 1}", env=environment)
    try:
        async with Client(f"http://127.0.0.1:{port}", KEY) as client:
            give_up = time.monotonic() + START_LIMIT_S
            while not await client.healthy():
                if (why := api.ended()) or time.monotonic() > give_up:
                    sys.exit(f"The control API does not answer: {why}")
                await asyncio.sleep(0.1)
            yield client
    finally:
        api.stop()


def make_project(folder: Path) -> Path:
    """Return a project directory: this one's inventory plugin, configuration and roles' options, and the playbook."""
    project = folder / "project"
    (project / "playbooks").mkdir(parents=True)
    for name in ("inventory", "plugins", "roles"):
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("ansible.cfg", "supported_models.json"):
        shutil.copy(PROJECT / name, project)
    stamps = "".join(STAMP.format(number=number) for number in range(STAMPS))
    (project / "playbooks" / "site.yml").write_text(PLAYBOOK + stamps)
    return project


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


async def bench(rounds: int) -> Times:
    """Measure both in turn; a first round of each warms up and does not count."""
    times = Times()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = make_project(folder)
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


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    times = asyncio.run(bench(parser.parse_args().rounds))
    overhead = median(job - plain for job, plain in zip(times.job, times.plain, strict=True))
    print(f"stamps seen after {median(times.seen):.2f} s, the last of {len(times.seen)} after {max(times.seen):.2f} s")
    # Provisioning takes lab hosts, which this does not start.
    result = {"job_overhead_s": round(overhead, 3), "event_to_websocket_s": round(median(times.seen), 3), "provision_s": None}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
