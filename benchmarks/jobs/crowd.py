"""A job with many hosts and tasks, and how the API answers before and meanwhile.

Its tasks do nothing, so that events come as fast as they can.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from statistics import quantiles

from benchmarks.jobs.site import control_plane, make_project
from control_api.client import Client
from control_api.client.schemas import HostCreate, JobCreate, JobDetail, JobStatus

HOSTS, TASKS = 50, 40
PLAYBOOK = """---
- name: Crowd
  hosts: gpu_hosts
  gather_facts: false
  tasks:
"""
TASK = """    - name: Say {number}
      ansible.builtin.debug:
        msg: "{number} on {{{{ inventory_hostname }}}}"
"""
PAUSE_S = 0.02
IDLE_S = 10.0


async def _answers(client: Client, ended: Callable[[], bool]) -> list[float]:
    """Ask for what pages show until the end; return how long each answer took, in seconds."""
    took_s: list[float] = []
    while not ended():
        for call in (client.nodes.list, client.hosts.list, client.jobs.list):
            started = time.monotonic()
            await call()
            took_s.append(time.monotonic() - started)
            await asyncio.sleep(PAUSE_S)
    return took_s


async def _ended(client: Client, job_id: str) -> JobDetail:
    """Wait for the end of a job without asking for it again and again."""
    async with aclosing(client.events(["jobs"])) as events:
        async for event in events:
            if event.data.get("id") == job_id and JobStatus(event.data["status"]).is_final:
                break
    return await client.jobs.get(job_id)


async def _measure() -> dict[str, float | int]:
    with tempfile.TemporaryDirectory() as name:
        make_project(Path(name), PLAYBOOK + "".join(TASK.format(number=number) for number in range(TASKS)))
        async with control_plane(Path(name)) as client:
            for number in range(1, HOSTS + 1):
                # Nobody is called there: what the tasks do, they do on the controller.
                await client.hosts.create(HostCreate(name=f"gpu-{number}", address=f"192.0.2.{number}"))
            idle_until = time.monotonic() + IDLE_S
            idle_s = await _answers(client, lambda: time.monotonic() > idle_until)
            hosts = [f"gpu-{number}" for number in range(1, HOSTS + 1)]
            job = await client.jobs.create(JobCreate(playbook="site.yml", hosts=hosts))
            running = asyncio.create_task(_ended(client, job.id))
            busy_s = await _answers(client, running.done)
            events = (await running).events
    print(f"{HOSTS} hosts, {TASKS} tasks: {events.expected} events made, {events.stored} stored")
    lost = (events.expected or 0) - events.stored
    return {"crowd_api_idle_p99_ms": _p99_ms(idle_s), "crowd_api_p99_ms": _p99_ms(busy_s), "crowd_events_lost": lost}


def _p99_ms(took_s: list[float]) -> float:
    return round(quantiles(took_s, n=100)[98] * 1000, 1)


def crowd() -> dict[str, float | int]:
    """Measure and return the figures."""
    return asyncio.run(_measure())
