"""``muster drift``: whether hosts still are what the playbooks made of them."""

from contextlib import aclosing
from typing import Annotated

import typer

from control_api.cli.connection import Json, Key, Url, call, fail
from control_api.cli.jobs import watch
from control_api.cli.output import print_json, print_table, say, say_lines
from control_api.client import Client
from control_api.client.schemas import HostDriftOut, HostStatus, JobOut
from control_api.kit.text import visible

app = typer.Typer(no_args_is_help=True, help="Whether hosts still are what the playbooks made of them.")


async def finished(client: Client, job: JobOut) -> JobOut:
    """Wait for the end of a job."""
    async with aclosing(client.jobs.follow(job.id)) as events:
        async for _ in events:
            pass
    return await client.jobs.get(job.id)


@app.command("show")
def show(url: Url = "", key: Key = "", as_json: Json = False) -> None:
    """Show what the latest check found on each host, with the differences."""
    found = call(url, key, lambda client: client.drift.list())
    print_json(found) if as_json else _print(found)


@app.command("check")
def check(
    hosts: Annotated[list[str] | None, typer.Argument(help="Names of hosts; default: all in service.")] = None,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Check hosts now, changing nothing. Exits with 2 unless all of them are in sync."""

    async def action(client: Client) -> list[HostDriftOut]:
        job = await finished(client, await client.drift.check(hosts or None))
        checked = {host.id for host in job.hosts}
        return [host for host in await client.drift.list() if host.host.id in checked]

    found = call(url, key, action)
    print_json(found) if as_json else _print(found)
    bad = [host for host in found if host.status is not HostStatus.IN_SYNC]
    if bad:
        drifted = any(host.status is HostStatus.DRIFTED for host in bad)
        hint = "Put it right: muster drift apply" if drifted else None
        raise fail(f"Not in sync: {', '.join(host.host.name for host in bad)}", hint, code=2)


@app.command("apply")
def apply(
    hosts: Annotated[list[str] | None, typer.Argument(help="Names of hosts; default: all that drifted.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Only tasks with this tag of a role; repeatable.")] = None,
    watch_it: Annotated[bool, typer.Option("--watch", help="Show its output and exit as it does.")] = False,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Put right the hosts that had drifted at their latest check, and leave the others alone."""
    job = call(url, key, lambda client: client.drift.apply(hosts or None, tag or []))
    if watch_it:
        return watch(job.id, url=url, key=key)
    print_json(job) if as_json else say(f"Job {job.id} is {job.status}. Watch it: muster jobs watch {job.id}")


def _print(found: list[HostDriftOut]) -> None:
    rows = [(h.host.name, h.status, _checked(h), h.reason or _tasks(h)) for h in found]
    print_table(["HOST", "STATUS", "CHECKED", ""], rows, empty="No hosts yet.")
    for host in found:
        for task in host.tasks:
            if task.status is HostStatus.DRIFTED:
                say_lines(f"\n{visible(host.host.name)}: {visible(task.task)}\n{task.diff or 'would change'}")


def _checked(host: HostDriftOut) -> str:
    return f"{host.checked_at:%Y-%m-%d %H:%M:%S}" if host.checked_at else "never"


def _tasks(host: HostDriftOut) -> str:
    drifted = sum(task.status is HostStatus.DRIFTED for task in host.tasks)
    return f"{drifted} of {len(host.tasks)} tasks" if drifted else ""
