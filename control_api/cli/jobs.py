"""``muster jobs``: Ansible runs."""

from contextlib import aclosing
from typing import Annotated

import typer

from control_api.cli.connection import Json, Key, Url, asked, call, fail
from control_api.cli.fleet import variables
from control_api.cli.output import print_json, print_table, say, say_lines
from control_api.client import Client
from control_api.client.schemas import JobCreate, JobOut, JobStatus

app = typer.Typer(no_args_is_help=True, help="Ansible runs: start, watch, cancel, retry.")

JobId = Annotated[str, typer.Argument(help="Job id, see `muster jobs list`.")]


@app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, newest first.")] = 20,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    found = call(url, key, lambda client: client.jobs.list(limit=limit))
    if as_json:
        return print_json(found)
    print_table(
        ["ID", "PLAYBOOK", "HOSTS", "STATUS", "BY", "CREATED"],
        [(j.id, j.playbook, _hosts(j), j.status, j.requested_by, f"{j.created_at:%Y-%m-%d %H:%M:%S}") for j in found],
        empty="No jobs yet. Start one: muster jobs run site.yml HOST",
    )


def _hosts(job: JobOut) -> str:
    names = [host.name for host in job.hosts]
    return ",".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")


@app.command("run")
def run(
    playbook: Annotated[str, typer.Argument(help="E.g. site.yml.")],
    hosts: Annotated[list[str], typer.Argument(help="Names of hosts.")],
    extra_var: Annotated[list[str] | None, typer.Option("--var", help="Role option NAME=VALUE (YAML); repeatable.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Only tasks with this tag of a role; repeatable.")] = None,
    check: Annotated[bool, typer.Option(help="Change nothing, say what would change.")] = False,
    watch_it: Annotated[bool, typer.Option("--watch", help="Show its output and exit as it does.")] = False,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Start a playbook on hosts."""
    options = {"extra_vars": variables(extra_var or []), "tags": tag or [], "check": check}
    wanted = asked(JobCreate, playbook=playbook, hosts=hosts, **options)
    job = call(url, key, lambda client: client.jobs.create(wanted))
    if watch_it:
        return watch(job.id, url=url, key=key)
    print_json(job) if as_json else say(f"Job {job.id} is {job.status}. Watch it: muster jobs watch {job.id}")


@app.command("show")
def show(job_id: JobId, url: Url = "", key: Key = "") -> None:
    """Show everything about a job, as JSON."""
    print_json(call(url, key, lambda client: client.jobs.get(job_id)))


@app.command("watch")
def watch(job_id: JobId, url: Url = "", key: Key = "") -> None:
    """Show a job's output as it happens; exit as its playbook did: 0, 2 (failed) or 4 (unreachable)."""

    async def action(client: Client) -> JobOut:
        async with aclosing(client.jobs.follow(job_id)) as events:
            async for event in events:
                if event.stdout:
                    say_lines(event.stdout)
        return await client.jobs.get(job_id)

    job = call(url, key, action)
    if job.status is JobStatus.SUCCESSFUL:
        return
    raise fail(f"The job is {job.status}: {job.reason or 'see its output'}", code=job.rc or 1)


@app.command("cancel")
def cancel(job_id: JobId, url: Url = "", key: Key = "") -> None:
    """Stop a job: its processes are ended here and on the hosts."""
    say(f"Job {job_id} is {call(url, key, lambda client: client.jobs.cancel(job_id)).status}; it is being stopped.")


@app.command("retry")
def retry(job_id: JobId, url: Url = "", key: Key = "") -> None:
    """Run a finished job again."""
    job = call(url, key, lambda client: client.jobs.retry(job_id))
    say(f"Job {job.id} is {job.status}. Watch it: muster jobs watch {job.id}")
