"""``muster plan`` and ``muster apply``: what would change, and exactly that."""

from typing import Annotated

import typer

from control_api.cli import jobs
from control_api.cli.connection import Json, Key, Url, call, fail
from control_api.cli.drift import finished
from control_api.cli.output import print_json, say, say_lines
from control_api.client import Client
from control_api.client.schemas import Acceptance, PlanOut


def plan(
    hosts: Annotated[list[str] | None, typer.Option("--hosts", help="Name of a host; repeatable. Default: all.")] = None,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Show what `site.yml` would change on hosts, changing nothing, and the hash to apply it by."""

    async def action(client: Client) -> tuple[PlanOut, list[str]]:
        job = await finished(client, await client.plans.create(hosts or None))
        everything = [] if hosts else await client.hosts.list()
        return await client.plans.get(job.id), [host.name for host in everything if host.acceptance is Acceptance.PROPOSED]

    made, left_out = call(url, key, action)
    if as_json:
        print_json(made)
    if not made.plan_hash:
        raise fail(f"No plan: its job is {made.status}: {made.reason}", f"muster jobs watch {made.job_id}")
    if not as_json:
        _print(made)
    if left_out:
        say(f"Left out, because no admin has accepted them yet: {', '.join(left_out)}.", error=True)


def _print(made: PlanOut) -> None:
    for host in made.hosts:
        for change in host.changes:
            say(f"{host.name}: {change.task}")
            if change.diff:
                say_lines(change.diff + "\n")
    count = sum(len(host.changes) for host in made.hosts)
    say(f"{count} changes on {len(made.hosts)} hosts. Apply them: muster apply {made.plan_hash}")


def apply(
    plan_hash: Annotated[str, typer.Argument(help="As `muster plan` printed it.")],
    watch: Annotated[bool, typer.Option("--watch", help="Show its output and exit as it does.")] = False,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Run what was planned; refused, saying what, if anything has moved since."""
    job = call(url, key, lambda client: client.plans.apply(plan_hash))
    if watch:
        return jobs.watch(job.id, url=url, key=key)
    print_json(job) if as_json else say(f"Job {job.id} is {job.status}. Watch it: muster jobs watch {job.id}")
