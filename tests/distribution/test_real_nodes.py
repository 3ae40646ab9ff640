"""Real node services against a real control API that hears from them once in ten minutes: what has to happen at once does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import muster
from tests.distribution.fleet import new_model, order, task
from tests.hub import Hub
from tests.node_service.process import NodeProcess, free_port
from tests.running import Api, until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("api", [{"heartbeat_interval_s": 600}], indirect=True)]

SIZE = 8 << 20
QUARTER_S = SIZE / 4

type AddNode = Callable[..., Awaitable[NodeProcess]]


@pytest.fixture
def big(hub: Hub) -> None:
    """A file at the hub that takes seconds to send; no engine can load it, which does not matter here."""
    path = hub.root / "lab/big/big.gguf"
    path.parent.mkdir()
    path.write_bytes(b"x" * SIZE)
    hub.fail(rate_bps=QUARTER_S)


@pytest.fixture
async def add_node(api: Api, tmp_path: Path) -> AsyncIterator[AddNode]:
    """Add hosts with node services that load no model."""
    nodes: list[NodeProcess] = []

    async def add(**changed: Any) -> NodeProcess:
        name, port = f"gpu-{len(nodes)}", free_port()
        folder = tmp_path / name
        folder.mkdir()
        host = await api.http.post("/v0/hosts", json={"name": name, "address": "127.0.0.1", "tags": ["site:tokyo"]})
        (folder / "ticket").write_text((await api.http.post(f"/v0/hosts/{host.json()['id']}/enrolment")).json()["ticket"])
        settings = {
            "name": name,
            "api_url": api.url,
            "base_url": f"http://127.0.0.1:{port}",
            "listen_host": "127.0.0.1",
            "listen_port": port,
            "store_dir": str(folder / "models"),
            "state_dir": str(folder / "state"),
            "enrolment_ticket_file": str(folder / "ticket"),
            "disk_reserve_bytes": 0,
            **changed,
        }
        nodes.append(NodeProcess(folder, settings))
        await asyncio.to_thread(nodes[-1].start)

        async def online() -> bool:
            return (await api.http.get(f"/v0/nodes/{name}")).json().get("state") == "online"

        await until(online, what=f"{name} online")
        return nodes[-1]

    yield add
    for node in nodes:
        node.kill()


def parts(node: NodeProcess) -> dict[str, int]:
    return {part.name: part.stat().st_size for part in (node.store_dir / "partial").glob("*.part")}


def reads(hub: Hub) -> list[Any]:
    """Return the requests for the file's bytes; a control API that reads the header says where to end."""
    return [served for served in hub.served if served.path.endswith("big.gguf") and (served.range or "").endswith("-")]


def reads_noted(hub: Hub) -> list[str]:
    """Return the same from the hub's log, where a request is noted when it has ended."""
    lines = hub.log.read_text().splitlines() if hub.log and hub.log.exists() else []
    return [line for line in lines if '"GET"' in line and 'big.gguf", "range": "bytes=0-", ' in line]


@pytest.mark.usefixtures("big")
async def test_cancel_stops_the_download_and_leaves_a_part_that_the_next_order_goes_on_with(
    api: Api, hub: Hub, add_node: AddNode, tmp_path: Path
) -> None:
    node = await add_node()
    hub.log = tmp_path / "hub.log"
    await new_model(api, "big")
    [task_id] = (await order(api, "big:1b"))["task_ids"]

    async def some_bytes() -> bool:
        return any(size > 100_000 for size in parts(node).values())

    await until(some_bytes, what="some bytes")

    assert (await api.http.post(f"/v0/tasks/{task_id}/cancel")).json()["status"] == "cancelled"

    async def left() -> bool:
        return len(reads_noted(hub)) == 1

    await until(left, what="the hub to be left by the node")
    assert reads(hub)[-1].sent_bytes < SIZE
    [kept] = parts(node).values()
    hub.fail()
    [second] = (await order(api, "big:1b"))["task_ids"]

    async def completed() -> bool:
        return (await task(api, second))["status"] == "completed"

    await until(completed, what="the second order to end")
    resumed_at = int(reads(hub)[-1].range.removeprefix("bytes=").removesuffix("-"))
    assert 100_000 < kept <= resumed_at < SIZE


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
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)

    found = await muster(api, "models", "verify", "big:1b")

    assert found.returncode == 0, found.stderr
    assert "repaired" in found.stdout
    assert file.read_bytes() == b"x" * SIZE
    assert "intact" in (await muster(api, "models", "verify", "big:1b")).stdout
    await new_model(api, "a")
    assert "No node has a:1b" in (await muster(api, "models", "verify", "a:1b")).stdout
