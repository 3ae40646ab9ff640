"""What sources do wrong, and what becomes of it: another source, the same byte, or a reason that a person can act on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node_service.errors import CorruptArtifact, NoSourceLeft
from tests.hub import Hub
from tests.node_service.control_plane import ControlPlane
from tests.node_service.installing import REPO, Place, Weights

pytestmark = pytest.mark.anyio

SIZE = 1_000_000
CUT = 300_000

type Start = Callable[[], Hub]


@pytest.fixture
def weights(tmp_path: Path, control: ControlPlane) -> Weights:
    """A file at the hub, offered as the only source."""
    return Weights.offered(tmp_path / "hub", control, SIZE)


@pytest.fixture
def start(tmp_path: Path, weights: Weights) -> Iterator[Start]:
    """Start hubs with the file; each can also play a peer or the pass-through."""
    running: list[Hub] = []

    def make() -> Hub:
        running.append(Hub(tmp_path / "hub").start())
        return running[-1]

    yield make
    for hub in running:
        hub.stop()


@pytest.fixture
def hub(start: Start) -> Hub:
    return start()


@pytest.fixture
def place(tmp_path: Path, control: ControlPlane, hub: Hub) -> Place:
    return Place.of(tmp_path / "node", control, hub)


def peer(hub: Hub, weights: Weights, node_id: str = "peer-1") -> dict[str, Any]:
    """Return a source that reads from a hub as if it were a peer."""
    url = f"{hub.url}/{REPO}/resolve/main/{weights.path.name}"
    return {"kind": "peer", "node_id": node_id, "url": url, "ticket": "t"}


def sent(hub: Hub) -> list[tuple[str | None, int]]:
    """Return the ranges that were asked for, and how many bytes of each were sent."""
    return [(served.range, served.sent_bytes) for served in hub.served if served.method == "GET"]


async def test_a_peer_that_dies_midway_is_followed_by_the_hub_from_the_same_byte(
    place: Place, control: ControlPlane, hub: Hub, start: Start, weights: Weights
) -> None:
    near = start()
    near.fail(truncate_at=CUT, for_good=True)
    control.sources[weights.sha256].insert(0, peer(near, weights))

    phases = await place.provide(weights)

    assert phases == ["downloading", "verifying"] and place.has(weights)
    assert sent(near)[0] == ("bytes=0-", CUT)
    assert sent(hub) == [(f"bytes={CUT}-", SIZE - CUT)]
    told = control.fetches[-1]["failed"]
    assert [(f["kind"], f["node_id"], f["corrupt"]) for f in told] == [("peer", "peer-1", False)]
    assert f"at {CUT} of {SIZE}" in told[0]["error"]


async def test_a_source_that_stalls_for_ever_is_left_at_its_own_deadline(
    place: Place, control: ControlPlane, hub: Hub, start: Start, weights: Weights
) -> None:
    near = start()
    hub.fail(stall_at=CUT, for_good=True)
    control.sources[weights.sha256].append(peer(near, weights))

    await place.provide(weights)

    assert place.has(weights)
    assert sent(near) == [(f"bytes={CUT}-", SIZE - CUT)]
    assert "no byte for 0.3 s" in control.fetches[-1]["failed"][0]["error"]


async def test_a_peer_that_lies_is_found_dropped_and_reported(
    place: Place, control: ControlPlane, hub: Hub, start: Start, weights: Weights
) -> None:
    liar = start()
    liar.fail(corrupt_at=CUT)
    control.sources[weights.sha256].insert(0, peer(liar, weights))

    await place.provide(weights)

    assert place.has(weights)
    assert len(sent(liar)) == 1
    assert sent(hub) == [("bytes=0-", SIZE)]
    (told,) = control.fetches[-1]["failed"]
    assert (told["kind"], told["node_id"], told["corrupt"]) == ("peer", "peer-1", True)
    assert f"expected sha256 {weights.sha256}" in told["error"]


async def test_of_several_givers_none_is_called_a_liar_but_peers_are_left_out(
    place: Place, control: ControlPlane, hub: Hub, start: Start, weights: Weights
) -> None:
    broken, liar = start(), start()
    broken.fail(truncate_at=CUT, for_good=True)
    liar.fail(corrupt_at=CUT + 1000)
    control.sources[weights.sha256] = [
        peer(broken, weights),
        peer(liar, weights, "peer-2"),
        *control.sources[weights.sha256],
    ]

    await place.provide(weights)

    assert place.has(weights)
    assert sent(hub) == [("bytes=0-", SIZE)]
    assert {f["node_id"]: f["corrupt"] for f in control.fetches[-1]["failed"]} == {"peer-1": False, "peer-2": False}


async def test_bytes_of_an_earlier_process_that_are_damaged_accuse_nobody(
    place: Place, control: ControlPlane, hub: Hub, weights: Weights
) -> None:
    place.store.create()
    place.store.part(weights.sha256).write_bytes(b"x" * CUT)
    control.sources[weights.sha256] = [peer(hub, weights)]

    await place.provide(weights)

    assert place.has(weights)
    assert [range_ for range_, _ in sent(hub)] == [f"bytes={CUT}-", "bytes=0-"]
    assert control.fetches[-1]["failed"] == []


async def test_a_hub_with_other_bytes_ends_in_a_reason_after_a_second_try(place: Place, hub: Hub, weights: Weights) -> None:
    hub.fail(corrupt_at=CUT)
    with pytest.raises(CorruptArtifact, match=f"expected sha256 {weights.sha256}, got .* from hub {REPO}"):
        await place.provide(weights)
    assert len(sent(hub)) == 2 and place.part_size(weights) == 0


async def test_every_source_and_its_answer_is_in_the_reason(
    place: Place, control: ControlPlane, hub: Hub, start: Start, weights: Weights
) -> None:
    gone, refusing = start(), start()
    gone.stop()
    refusing.fail(status=403)
    hub.fail(status=500)
    control.sources[weights.sha256] = [
        peer(gone, weights),
        peer(refusing, weights, "peer-2"),
        *control.sources[weights.sha256],
        {"kind": "pass_through", "url": f"/v0/hub/{REPO}/resolve/main/weights.gguf"},
    ]

    with pytest.raises(NoSourceLeft) as caught:
        await place.provide(weights)

    text = str(caught.value)
    assert f"peer {gone.url}: " in text
    assert f"peer {refusing.url}: answered 403" in text
    assert f"hub {REPO}@" in text and "the hub answered 500" in text
    assert "pass-through /v0/hub/" in text and "answered 404" in text


@pytest.mark.parametrize("longer", [5, -5])
async def test_a_wrong_content_length_is_refused_before_the_first_byte(
    place: Place, hub: Hub, weights: Weights, longer: int
) -> None:
    hub.fail(wrong_length=longer)
    with pytest.raises(NoSourceLeft, match=f"has {SIZE + longer} bytes, the manifest says {SIZE}"):
        await place.provide(weights)
    assert sent(hub) == []


@pytest.mark.parametrize("longer", [5, -5])
async def test_a_peers_wrong_content_length_costs_no_byte(
    place: Place, control: ControlPlane, hub: Hub, start: Start, weights: Weights, longer: int
) -> None:
    near = start()
    near.fail(wrong_length=longer)
    control.sources[weights.sha256].insert(0, peer(near, weights))

    await place.provide(weights)

    assert place.has(weights)
    assert sum(count for _, count in sent(hub)) == max(0, -longer)


async def test_a_redirect_loop_ends(place: Place, hub: Hub, weights: Weights) -> None:
    hub.fail(redirect_to=f"{hub.url}/{REPO}/resolve/main/{weights.path.name}")
    with pytest.raises(NoSourceLeft, match=r"redirect|Too many"):
        await place.provide(weights)
    assert sent(hub) == [] or max(count for _, count in sent(hub)) == 0


@pytest.mark.parametrize("to", ["[fec0::1]", "[::10.0.0.1]", "[::ffff:0:10.0.0.1]", "[64:ff9b:1::10.0.0.1]"])
async def test_a_redirect_to_no_public_address_is_not_even_tried(place: Place, hub: Hub, weights: Weights, to: str) -> None:
    hub.fail(redirect_to=f"https://{to}/x")
    with pytest.raises(NoSourceLeft, match="redirects to"):
        await place.provide(weights)


async def test_an_empty_file_is_installed_if_that_is_what_was_registered(
    tmp_path: Path, control: ControlPlane, hub: Hub, place: Place
) -> None:
    empty = Weights.offered(tmp_path / "hub", control, 0, name="empty.gguf")
    await place.provide(empty)
    assert place.has(empty)


async def test_a_hub_that_is_empty_where_bytes_should_be_is_refused(
    tmp_path: Path, control: ControlPlane, hub: Hub, place: Place, weights: Weights
) -> None:
    Weights.make(tmp_path / "hub", 0, name="empty.gguf")
    control.sources[weights.sha256][0]["path"] = "empty.gguf"
    with pytest.raises(NoSourceLeft, match=f"has 0 bytes, the manifest says {SIZE}"):
        await place.provide(weights)
