"""``muster models push``, ``muster models verify`` and ``muster tasks``: models on their way."""

import asyncio
from typing import Annotated

import typer

from control_api.cli.connection import Json, Key, Url, asked, call, fail
from control_api.cli.output import print_json, print_table, say, size
from control_api.client import Client
from control_api.client.schemas import DistributeRequest, TaskOut, TaskStatus

tasks = typer.Typer(no_args_is_help=True, help="Models on their way to nodes.")

ModelId = Annotated[str, typer.Argument(help="Model id, e.g. gpt-oss:20b.")]
Nodes = Annotated[str, typer.Option(help="Names or ids, separated by commas; default: all nodes.")]
POLL_S = 0.5


def push(
    model: ModelId,
    nodes: Nodes = "",
    redownload: Annotated[bool, typer.Option(help="Verify it where it is installed, and repair it.")] = False,
    retry_when_online: Annotated[bool, typer.Option(help="Offline nodes get it when they are back.")] = False,
    wait: Annotated[bool, typer.Option(help="Show progress until every download has ended.")] = False,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Order a model onto nodes."""
    again = "redownload" if redownload else "skip"
    order = asked(DistributeRequest, model=model, if_installed=again, retry_when_online=retry_when_online)
    ended = call(url, key, lambda client: _order(client, order, nodes, wait=wait, quiet=as_json))
    print_json(ended) if as_json else print_table(_COLUMNS, [_row(task) for task in ended], empty="Nothing to do.")
    _check(ended)


def verify(model: ModelId, nodes: Nodes = "", url: Url = "", key: Key = "", as_json: Json = False) -> None:
    """Hash a model's files on its nodes again; what is damaged leaves rotation and is fetched anew."""
    order = asked(DistributeRequest, model=model, if_installed="redownload")

    async def action(client: Client) -> tuple[list[TaskOut], dict[str, str]]:
        before = await _installed(client, model)
        ended = await _order(client, order, nodes or ",".join(before), wait=True, quiet=as_json) if before else []
        after = await _installed(client, model)
        return ended, {id_: "intact" if at == before.get(id_) else "repaired" for id_, at in after.items()}

    ended, found = call(url, key, action)
    done = TaskStatus.COMPLETED
    rows = [(t.node_id, found.get(t.node_id, "") if t.status is done else t.status, t.error) for t in ended]
    print_json(ended) if as_json else print_table(["NODE", "FOUND", "ERROR"], rows, empty=f"No node has {model}.")
    _check(ended)


async def _installed(client: Client, model: str) -> dict[str, str]:
    """Return when each node that has a model installed it, by node id."""
    nodes = await client.nodes.list()
    return {node.id: str(m.installed_at) for node in nodes for m in node.models if m.id == model and m.installed_at}


async def _order(client: Client, order: DistributeRequest, nodes: str, *, wait: bool, quiet: bool) -> list[TaskOut]:
    names = [name.strip() for name in nodes.split(",") if name.strip()]
    ids = [(await client.nodes.get(name)).id for name in names]
    if ids:
        order = order.model_copy(update={"target": "specific", "node_ids": ids})
    ordered = await client.models.distribute(order)
    for line in ordered.warnings:
        say(f"warning: {line}", error=True)
    follow = _follow if wait else _look
    return await follow(client, ordered.task_ids, quiet)


async def _look(client: Client, task_ids: list[str], quiet: bool) -> list[TaskOut]:
    return await client.tasks.list(ids=task_ids) if task_ids else []


async def _follow(client: Client, task_ids: list[str], quiet: bool) -> list[TaskOut]:
    """Show one bar for each node until all have ended."""
    from control_api.cli import bars

    names = {node.id: node.name for node in await client.nodes.list()}
    with bars.downloads(quiet=quiet) as progress:
        bar_of = {task_id: progress.add_task("", total=None, what="", moving="") for task_id in task_ids}
        while True:
            found = await _look(client, task_ids, quiet)
            for task in found:
                bar, what = bar_of[task.id], f"{names.get(task.node_id, task.node_id)} {task.status}"
                progress.update(bar, completed=task.bytes_done, total=task.bytes_total or None, what=what, moving=_moving(task))
            if not any(task.status.is_open for task in found):
                return found
            await asyncio.sleep(POLL_S)


def _moving(task: TaskOut) -> str:
    """Return how fast a download is, how long it will take and where it reads from."""
    if task.status is not TaskStatus.IN_PROGRESS:
        return task.error or ""
    left = "" if task.eta_s is None else f", {task.eta_s // 60}:{task.eta_s % 60:02} left"
    return f"{size(task.speed_bps)}/s{left}{f', from {task.source}' if task.source else ''}"


def _check(ended: list[TaskOut]) -> None:
    if failed := [task for task in ended if task.status is TaskStatus.FAILED]:
        raise fail(f"{len(failed)} of {len(ended)} downloads failed: {failed[0].error}")


_COLUMNS = ["TASK", "MODEL", "STATUS", "PROGRESS", "SPEED", "ERROR"]


def _row(task: TaskOut) -> tuple[object, ...]:
    speed = f"{size(task.speed_bps)}/s" if task.status is TaskStatus.IN_PROGRESS else ""
    return task.id, task.model_id, task.status, f"{task.progress:.0%}", speed, task.error


@tasks.command("list")
def list_tasks(
    status: Annotated[TaskStatus | None, typer.Option(help="Only those in this state.")] = None,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """List downloads, newest first."""
    found = call(url, key, lambda client: client.tasks.list(status=status))
    if as_json:
        return print_json(found)
    print_table(_COLUMNS, [_row(task) for task in found], empty="No downloads yet.")


@tasks.command("cancel")
def cancel(task_id: Annotated[str, typer.Argument(help="Task id.")], url: Url = "", key: Key = "") -> None:
    """Stop a download; what is there is kept for the next order."""
    call(url, key, lambda client: client.tasks.cancel(task_id))
    say(f"Cancelled {task_id}.")
