"""Real node services against a real control API that hears from them once in ten minutes: what has to happen at once does."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import muster
from tests.distribution.fleet import new_model, order, task
from tests.distribution.services import new_service, part_size
from tests.hub import Hub
from tests.node_service.process import NodeProcess
from tests.running import Api, until

LIMIT = 2
SETTINGS = {"heartbeat_interval_s": 600, "max_concurrent_downloads": LIMIT}
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("api", [SETTINGS], indirect=True)]

SIZE = 8 << 20
CONTENT = b"GGUF".ljust(SIZE, b"x")
SLOW_BPS = SIZE / 40

type AddNode = Callable[..., Awaitable[NodeProcess]]


@pytest.fixture
def big(hub: Hub) -> None:
    """A file at the hub that takes long to send; no engine can load it, which does not matter here."""
    path = hub.root / "lab/big/big.gguf"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    hub.fail(rate_bps=SLOW_BPS)


@pytest.fixture
async def add_node(api: Api, tmp_path: Path) -> AsyncIterator[AddNode]:
    """Add hosts with node services, of one site if nothing else is said."""
    nodes: list[NodeProcess] = []
    names = (f"gpu-{number}" for number in itertools.count())

    async def add(**changed: Any) -> NodeProcess:
        name = next(names)
        node = await new_service(api.http, tmp_path / name, name, **{"tags": ["site:tokyo"], **changed})
        nodes.append(node)
        await asyncio.to_thread(node.start)

        async def online() -> bool:
            return (await api.http.get(f"/v0/nodes/{name}")).json().get("state") == "online"

        await until(online, what=f"{name} online")
        return node

    yield add
    for node in nodes:
        node.kill()


def reads(hub: Hub) -> list[Any]:
    """Return the requests for the file's bytes; a control API that reads the header says where to end."""
    return [served for served in hub.served if served.path.endswith("big.gguf") and (served.range or "").endswith("-")]


async def some_bytes_of(node: NodeProcess) -> bool:
    return part_size(node) > 100_000


async def left(hub: Hub) -> bool:
    """Whether the first read has ended: in the hub's log a request is noted when it has."""
    lines = hub.log.read_text().splitlines() if hub.log and hub.log.exists() else []
    return any('"GET"' in line and 'big.gguf", "range": "bytes=0-", ' in line for line in lines)


async def big_begun(api: Api, hub: Hub, add_node: AddNode, tmp_path: Path) -> tuple[NodeProcess, str]:
    """Order the big model onto a new node; return the node, which has some of it, and the task."""
    node = await add_node()
    hub.log = tmp_path / "hub.log"
    await new_model(api, "big")
    [task_id] = (await order(api, "big:1b"))["task_ids"]
    await until(lambda: some_bytes_of(node), what="some bytes")
    return node, task_id


@pytest.mark.usefixtures("big")
async def test_cancel_stops_the_download_and_leaves_a_part_that_the_next_order_goes_on_with(
    api: Api, hub: Hub, add_node: AddNode, tmp_path: Path
) -> None:
    node, task_id = await big_begun(api, hub, add_node, tmp_path)

    assert (await api.http.post(f"/v0/tasks/{task_id}/cancel")).json()["status"] == "cancelled"

    await until(lambda: left(hub), what="the hub to be left by the node")
    assert reads(hub)[-1].sent_bytes < SIZE
    kept = part_size(node)
    hub.fail()
    [second] = (await order(api, "big:1b"))["task_ids"]

    async def completed() -> bool:
        return (await task(api, second))["status"] == "completed"

    await until(completed, what="the second order to end")
    resumed_at = int(reads(hub)[-1].range.removeprefix("bytes=").removesuffix("-"))
    assert 100_000 < kept <= resumed_at < SIZE


@pytest.mark.usefixtures("big")
async def test_deleting_a_model_ends_its_download_and_leaves_nothing(
    api: Api, hub: Hub, add_node: AddNode, tmp_path: Path
) -> None:
    node, task_id = await big_begun(api, hub, add_node, tmp_path)

    assert (await api.http.delete("/v0/models/big:1b")).status_code == 204
    await asyncio.to_thread(node.post, "/v0/sync")

    await until(lambda: left(hub), what="the hub to be left by the node")
    assert reads(hub)[-1].sent_bytes < SIZE
    ended = await task(api, task_id)
    assert (ended["status"], ended["error"]) == ("cancelled", "The model was deleted.")

    async def nothing_there() -> bool:
        # The lock itself stays: deleting it could give two processes one lock each.
        return {path.suffix for path in node.store_dir.rglob("*") if path.is_file()} <= {".lock"}

    await until(nothing_there, what="the part and what was noted of it to go")
    assert (await asyncio.to_thread(node.get, "/v1/models")).json()["data"] == []


@pytest.mark.usefixtures("big")
async def test_two_nodes_of_a_site_take_one_copy_over_the_wan(api: Api, hub: Hub, add_node: AddNode) -> None:
    hub.fail()
    for _ in range(2):
        await add_node()
    await new_model(api, "big")
    ids = (await order(api, "big:1b"))["task_ids"]

    async def completed() -> bool:
        return {(await task(api, task_id))["status"] for task_id in ids} == {"completed"}

    await until(completed, what="both to have it", timeout_s=60)

    assert sum(served.sent_bytes for served in reads(hub)) == SIZE


@pytest.mark.usefixtures("big")
async def test_a_flipped_bit_is_found_by_the_command_and_repaired(api: Api, hub: Hub, add_node: AddNode) -> None:
    hub.fail()
    node = await add_node()
    await new_model(api, "big")
    pushed = await muster(api, "models", "push", "big:1b", "--nodes", "gpu-0", "--wait")
    assert pushed.returncode == 0, pushed.stderr
    assert "completed" in pushed.stdout and "100%" in pushed.stdout
    [file] = [path for path in (node.store_dir / "artifacts").rglob("*.gguf") if path.is_file()]
    with file.open("r+b") as bytes_of_the_file:  # in place: for a node, a file that is cut short is another fault
        bytes_of_the_file.seek(1000)
        bytes_of_the_file.write(bytes([CONTENT[1000] ^ 1]))

    found = await muster(api, "models", "verify", "big:1b")

    assert found.returncode == 0, found.stderr
    assert "repaired" in found.stdout
    assert file.read_bytes() == CONTENT
    assert "intact" in (await muster(api, "models", "verify", "big:1b")).stdout
    await new_model(api, "a")
    assert "No node has a:1b" in (await muster(api, "models", "verify", "a:1b")).stdout


@pytest.mark.usefixtures("big")
async def test_a_node_that_lost_its_disk_gets_its_models_again_by_itself(api: Api, hub: Hub, add_node: AddNode) -> None:
    hub.fail()
    node = await add_node()
    await new_model(api, "big")
    await order(api, "big:1b")

    async def installed() -> bool:
        return [path.read_bytes() == CONTENT for path in (node.store_dir / "artifacts").rglob("*.gguf")] == [True]

    await until(installed, what="the model")
    node.kill()
    shutil.rmtree(node.store_dir)
    await asyncio.to_thread(node.start)

    await until(installed, what="the model again")
    assert len(reads(hub)) == 2


async def test_of_ten_downloads_at_once_never_more_than_allowed_are_under_way_and_all_end_well(
    api: Api, hub: Hub, add_node: AddNode
) -> None:
    for name in ("a", "b"):
        (hub.root / f"lab/{name}/{name}.gguf").write_bytes(b"GGUF".ljust(1 << 20, name.encode()))
        await new_model(api, name)
    # Of no site: each reads from the hub itself.
    await asyncio.gather(*(add_node(tags=[]) for _ in range(5)))
    hub.fail(rate_bps=1 << 20)
    hub.busiest = 0

    ids = [task_id for name in ("a", "b") for task_id in (await order(api, f"{name}:1b"))["task_ids"]]

    async def over() -> bool:
        listed = (await api.http.get("/v0/tasks", params={"ids": ",".join(ids)})).json()["items"]
        return not {found["status"] for found in listed} & {"pending", "in_progress"}

    await until(over, what="all to end", timeout_s=120)
    assert [(await task(api, task_id))["status"] for task_id in ids] == ["completed"] * 10
    assert hub.busiest == LIMIT
