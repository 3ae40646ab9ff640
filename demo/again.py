"""From registration to ready on nodes that are there already: what the demo's last figure is of."""

import asyncio
from collections.abc import Awaitable, Callable

from control_api.client import Client
from control_api.client.schemas import ModelState, NodeModelOut, RegisterModelRequest
from demo.display import Display, StageFailed

LIMIT_S = 300
_LOOK_S = 0.1


async def register_again(client: Client, model: str, display: Display) -> None:
    """Take a model and its files off all nodes, register it again, and wait until each has it ready.

    Raises ``StageFailed`` for what does not happen within five minutes.
    """

    async def is_gone() -> bool:
        return not await _reports(client, model)

    async def is_ready() -> bool:
        reports = await _reports(client, model)
        return len(reports) == nodes and all(report.state is ModelState.READY for report in reports)

    nodes = len(await client.nodes.list())
    await client.models.delete(model)
    await _until(is_gone, f"{model} to leave the nodes")
    with display.stage("again", f"Registering {model} again, until every node has it ready"):
        await client.models.register(RegisterModelRequest(model=model))
        await _until(is_ready, f"{model} to be ready on {nodes} nodes")


async def _reports(client: Client, model: str) -> list[NodeModelOut]:
    return [report for node in await client.nodes.list() for report in node.models if report.id == model]


async def _until(look: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + LIMIT_S
    while not await look():
        if asyncio.get_running_loop().time() > deadline:
            raise StageFailed(f"Waited {LIMIT_S} s in vain for {what}.")
        await asyncio.sleep(_LOOK_S)
