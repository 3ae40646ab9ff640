"""The pass-through: for nodes with a grant, for what is registered, by Range, as fast as the node reads and no faster."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.distribution.conftest import CONTENT
from tests.distribution.fleet import WireNode, new_model, new_node, order
from tests.hub import Hub, commit_of
from tests.node_service.installing import Place, Weights
from tests.running import Api, until

pytestmark = pytest.mark.anyio

BIG_BYTES = 96 << 20
PATH = f"/v0/hub/lab/a/resolve/{commit_of('lab/a')}/a.gguf"


async def granted(api: Api, name: str = "a") -> WireNode:
    """Return a node that may fetch a model's file now."""
    model, node = await new_model(api, name), await new_node(api, "gpu-01")
    await order(api, f"{name}:1b")
    assert (await node.ask(model["artifacts"][0]["sha256"])).status_code == 200
    return node


async def test_a_file_comes_through_whole_or_from_any_byte_on(api: Api, hub: Hub) -> None:
    node = await granted(api)

    whole = await api.http.get(PATH, headers=node.headers)
    rest = await api.http.get(PATH, headers={**node.headers, "range": "bytes=990-"})

    assert (whole.status_code, whole.content) == (200, CONTENT["a"])
    assert (rest.status_code, rest.content) == (206, CONTENT["a"][990:])
    assert rest.headers["content-range"] == "bytes 990-999/1000"
    assert hub.served[-1].range == "bytes=990-"


async def test_it_is_for_nodes_with_a_grant_and_for_what_is_registered(api: Api) -> None:
    node = await granted(api)
    other = await new_node(api, "gpu-02")
    unregistered = PATH.replace("a.gguf", "b.gguf")
    other_commit = PATH.replace(commit_of("lab/a"), "main")

    codes = [
        (await api.http.get(path, headers=headers)).json()["error"]["code"]
        for path, headers in [
            (PATH, None),
            (PATH, {"authorization": "Bearer mn_nobody"}),
            (PATH, other.headers),
            (unregistered, node.headers),
            (other_commit, node.headers),
        ]
    ]

    assert codes == ["bad_node_token", "bad_node_token", "no_fetch_grant", "not_registered", "not_registered"]


async def test_a_hub_that_fails_is_said(api: Api, hub: Hub) -> None:
    node = await granted(api)
    hub.fail(status=403)
    answer = await api.http.get(PATH, headers=node.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "hub_unreachable")
    assert "403" in answer.json()["error"]["message"]
    hub.stop()
    assert (await api.http.get(PATH, headers=node.headers)).status_code == 503


@asynccontextmanager
async def reading_slowly(api: Api, hub: Hub, root: Path) -> AsyncIterator[httpx2.Response]:
    """Open a file of which the hub could send much more than anybody takes; yield after the first piece."""
    big = root / "lab/big/big.gguf"
    big.parent.mkdir(parents=True)
    big.write_bytes(b"GGUF")
    with big.open("r+b") as file:
        file.truncate(BIG_BYTES)
    node = await granted(api, "big")
    path = PATH.replace("lab/a/", "lab/big/").replace(commit_of("lab/a"), commit_of("lab/big")).replace("a.gguf", "big.gguf")
    async with httpx2.AsyncClient(base_url=api.url) as http, http.stream("GET", path, headers=node.headers) as answer:
        assert answer.status_code == 200
        await anext(answer.aiter_raw(1024))
        yield answer


def sent_bytes(hub: Hub) -> int:
    return max(served.sent_bytes for served in hub.served)


async def test_who_reads_slowly_is_sent_slowly_and_who_leaves_ends_the_reading_from_the_hub(
    api: Api, hub: Hub, tmp_path: Path
) -> None:
    hub.log = tmp_path / "hub.log"
    seen = -1

    async def at_rest() -> bool:
        nonlocal seen
        before, seen = seen, sent_bytes(hub)
        return before == seen

    async with reading_slowly(api, hub, tmp_path / "hub"):
        await until(at_rest, what="the hub to be sent no further")
        assert 0 < sent_bytes(hub) < BIG_BYTES / 2

    async def ended() -> bool:
        return "big.gguf" in (hub.log.read_text() if hub.log else "")

    await until(ended, what="the hub to be left")
    assert sent_bytes(hub) < BIG_BYTES


async def test_a_node_that_reaches_no_hub_installs_through_it(api: Api, hub: Hub, tmp_path: Path) -> None:
    node = await granted(api)
    token = node.headers["authorization"].removeprefix("Bearer ")
    [wanted] = (await node.manifest())["models"]
    place = Place(tmp_path / "node", api.url, "http://127.0.0.1:9", node.id, token)
    place.directory.mkdir()

    await place.provide(weights := Weights(Path("unused"), wanted))

    assert place.has(weights)
