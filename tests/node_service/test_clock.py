"""The wall clock of a node jumps by hours, there and back: deadlines are measured on a clock that does not."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fake_clock import FakeClock
from tests.hub import Hub
from tests.node_service.control_plane import ControlPlane
from tests.node_service.lock_holder import hold_lock
from tests.node_service.process import NodeProcess
from tests.processes import wait_for

HOURS_S = 6 * 3600
HEARTBEATS = 15  # at ten a second

type Spec = Callable[..., dict[str, Any]]


@pytest.fixture
def clock(tmp_path: Path) -> FakeClock:
    """A wall clock that is right until it jumps."""
    return FakeClock(tmp_path)


@pytest.fixture
def node(make_node: Callable[..., NodeProcess], clock: FakeClock) -> NodeProcess:
    """A running node that lives by that clock."""
    return make_node(environment=clock.environment)


def jump_about(clock: FakeClock, control: ControlPlane) -> None:
    """Jump ahead and behind; after each jump the node reads a manifest, which it logs, and lives on for a while."""
    for wrong_by_s in (HOURS_S, -HOURS_S):
        clock.jump(wrong_by_s)
        revision, heard = control.assign(*control.manifest["models"]), len(control.heartbeats)
        wait_for(lambda wanted=heard + HEARTBEATS: len(control.heartbeats) > wanted, "heartbeats after the jump")
        wait_for(lambda wanted=revision: control.last["applied_revision"] == wanted, "the next manifest")


def hours_of(node: NodeProcess) -> set[int]:
    """Return by how many hours the records of a node's log were wrong."""
    said = [json.loads(line)["at"] for line in node.log_file.read_text().splitlines() if line.startswith("{")]
    apart = [datetime.fromisoformat(text).astimezone(UTC) - datetime.now(UTC) for text in said]
    return {round(each / timedelta(hours=1)) for each in apart}


def test_a_download_goes_on_from_the_same_source(
    node: NodeProcess, clock: FakeClock, control: ControlPlane, hub: Hub, spec: Spec
) -> None:
    wanted = spec("tiny:slow", "slow.gguf")
    size = wanted["artifacts"][0]["size"]
    hub.fail(rate_bps=size / 100)
    control.assign(wanted)
    wait_for(lambda: control.reported("tiny:slow").get("bytes_done"), "some bytes")

    jump_about(clock, control)
    speeds = [m["speed_bps"] for beat in control.heartbeats[-HEARTBEATS:] for m in beat["models"] if m["speed_bps"]]
    hub.fail()

    wait_for(lambda: control.state("tiny:slow") == "ready", "ready")
    reads = [served.range for served in hub.served if served.method == "GET" and served.path.endswith("slow.gguf")]
    assert reads == ["bytes=0-"]
    assert speeds and min(speeds) > size / 10_000
    assert {6, -6} <= hours_of(node)


def test_a_lock_is_waited_for_and_its_holder_believed(
    node: NodeProcess, clock: FakeClock, control: ControlPlane, hub: Hub, spec: Spec
) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    other = hold_lock(node.store_dir / "locks", wanted["artifacts"][0]["sha256"])
    control.assign(wanted)
    wait_for(lambda: control.state("tiny:cycle") == "queued", "waiting for the lock")

    jump_about(clock, control)

    assert (control.state("tiny:cycle"), control.reported("tiny:cycle")["error"]) == ("queued", None)
    assert [served for served in hub.served if served.path.endswith("cycle.gguf")] == []
    assert {6, -6} <= hours_of(node)
    other.communicate("\n", timeout=10)
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
