"""``muster models plan``: where models would go on nodes that do not exist yet."""

import re
from typing import Annotated

import typer
from pydantic import ValidationError

from control_api.cli.connection import Json, Key, Url, call, fail
from control_api.cli.output import print_json, print_table, say, size
from control_api.client.schemas import Gpu, Hardware, PlacementOut, PlacementRequest, PlannedNode

_SIZE = re.compile(r"(?P<amount>\d+(?:\.\d+)?)(?P<unit>[KMGT]i?B?|B)?", re.IGNORECASE)
_POWERS = {"B": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_ROOMY_DISK_BYTES = 1 << 50
_NODE_HELP = "NAME:gpu=24GiB,gpu=24GiB,ram=128GiB,disk=1TB,tag=gpu-a; repeatable. Without disk=: more than enough."


def plan(
    nodes: Annotated[list[str], typer.Option("--node", help=_NODE_HELP)],
    models: Annotated[list[str] | None, typer.Option("--model", help="Model id; repeatable; default: all registered.")] = None,
    policy: Annotated[str | None, typer.Option(help="registered, best-fit, all or off; default: the one in force.")] = None,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Show where models would go on nodes that do not exist yet, and why not elsewhere. Changes nothing."""
    try:
        wanted = PlacementRequest.model_validate(
            {"nodes": [_node(text).model_dump() for text in nodes], "models": models or [], "policy": policy}
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise fail(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}", f"--node {_NODE_HELP}", code=2) from None
    made = call(url, key, lambda client: client.models.plan_placement(wanted))
    print_json(made) if as_json else _print(made)


def _print(made: PlacementOut) -> None:
    rows = [
        (
            node.name,
            model.model_id,
            model.residency or "refused",
            size(model.required_memory_bytes),
            _where(model.gpus),
            model.reason,
        )
        for node in made.nodes
        for model in node.models
    ]
    print_table(["NODE", "MODEL", "BECOMES", "NEEDS", "ON", "BECAUSE IT"], rows, empty="No model to place.")
    for node in made.nodes:
        left, total = size(node.memory_free_bytes), size(node.memory_total_bytes)
        say(f"{node.name}: {left} of {total} {node.memory_kind} left")


def _where(gpus: list[str]) -> str:
    return ", ".join(gpus)


def _node(text: str) -> PlannedNode:
    name, _, rest = text.partition(":")
    found: dict[str, list[str]] = {"gpu": [], "ram": [], "disk": [], "tag": []}
    for part in filter(None, rest.split(",")):
        what, equals, value = part.partition("=")
        if not equals or what not in found:
            raise fail(f"{part!r} is none of gpu=, ram=, disk= and tag=.", f"--node {_NODE_HELP}", code=2)
        found[what].append(value)
    hardware = Hardware(
        gpus=[Gpu(index=index, memory_total=_bytes(value)) for index, value in enumerate(found["gpu"])],
        memory_total=sum(map(_bytes, found["ram"])),
        disk_free=sum(map(_bytes, found["disk"])) if found["disk"] else _ROOMY_DISK_BYTES,
    )
    return PlannedNode(name=name, hardware=hardware, tags=found["tag"])


def _bytes(text: str) -> int:
    """Read a size; GB are powers of 1000, GiB and a bare G are powers of 1024."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise fail(f"{text!r} is not a size such as 24GiB.", f"--node {_NODE_HELP}", code=2)
    unit = (match["unit"] or "B").upper()
    base = 1000 if len(unit) == 2 and unit.endswith("B") else 1024
    return int(float(match["amount"]) * base ** _POWERS[unit[0]])
