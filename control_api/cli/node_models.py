"""``muster nodes models`` and ``muster nodes tag``: what shall be on a node, and what decides it."""

from collections.abc import Sequence
from typing import Annotated

import typer

from control_api.cli.connection import Json, Key, Url, call
from control_api.cli.output import print_json, print_table, say
from control_api.client import Client
from control_api.client.schemas import AssignmentOut, NodeOut

Name = Annotated[str, typer.Argument(help="Name or id of a node.")]


def models(name: Name, url: Url = "", key: Key = "", as_json: Json = False) -> None:
    """List the models that shall be on a node, how far each is, and why one is refused or loaded on demand only."""

    async def action(client: Client) -> tuple[NodeOut, Sequence[AssignmentOut]]:
        node = await client.nodes.get(name)
        return node, await client.nodes.assignments(node.id)

    node, assigned = call(url, key, action)
    if as_json:
        return print_json(assigned)
    states = {model.id: model.state for model in node.models}
    print_table(
        ["MODEL", "SHALL BE", "IS", "ON", "BECAUSE IT"],
        [
            (
                a.model_id,
                _wish(a),
                states.get(a.model_id, "absent"),
                ", ".join(a.gpu_uuids),
                a.unschedulable or a.residency_reason,
            )
            for a in assigned
        ],
        empty="No model shall be on this node. Register one, or order one: muster models push MODEL --nodes NAME",
    )


def _wish(assigned: AssignmentOut) -> str:
    if assigned.unschedulable:
        return "refused"
    return "cancelled" if assigned.paused else assigned.residency


def tag(
    name: Name,
    tags: Annotated[list[str] | None, typer.Argument(help="All tags that it shall have; none: no tags.")] = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Replace a node's tags. Models that need them are placed; what is on the node stays."""

    async def action(client: Client) -> NodeOut:
        return await client.nodes.patch((await client.nodes.get(name)).id, tags=tags or [])

    node = call(url, key, action)
    say(f"{node.name} is tagged {', '.join(node.tags)}." if node.tags else f"{node.name} has no tags.")
