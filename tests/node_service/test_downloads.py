"""Weights: fetched, resumed, verified, and every way in which that can go wrong."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hub import Hub
from tests.node_service.control_plane import ControlPlane
from tests.node_service.process import NodeProcess
from tests.processes import wait_for

type Spec = Callable[..., dict[str, Any]]

SIZE = 11_000_000  # the slow model: a little more than this
SLOW_BPS = SIZE / 40  # so that a test that gets no processor for a while does not find it there


def installed(node: NodeProcess, digest: str) -> list[Path]:
    """Return the files of an installed artifact."""
    return [path for path in (node.store_dir / "artifacts" / digest).glob("[!.]*") if path.is_file()]


def part_size(node: NodeProcess, digest: str) -> int:
    """Return how many bytes of an artifact are on their way."""
    part = node.store_dir / "partial" / f"{digest}.part"
    return part.stat().st_size if part.exists() else 0


def reads(hub: Hub) -> list[Any]:
    """Return the requests for bytes that the hub got."""
    return [served for served in hub.served if served.method == "GET"]


def ended(control: ControlPlane, generation: int) -> bool:
    """Whether an order of the cycle model was reported as failed."""
    report = control.reported("tiny:cycle")
    return (report.get("generation"), report.get("state")) == (generation, "failed")


def sha256_of(spec: dict[str, Any]) -> str:
    return str(spec["artifacts"][0]["sha256"])


def test_download_ends_ready_and_verified(node: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")

    revision = control.assign(wanted)

    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    report = control.reported("tiny:cycle")
    assert report["generation"] == 1
    assert report["bytes_done"] == report["bytes_total"] == report["size"] == wanted["artifacts"][0]["size"]
    assert (report["device"], report["gpu_layers"], report["slots"]) == ("cpu", 0, 2)
    assert report["installed_at"] is not None and report["error"] is None
    last = control.heartbeats[-1]
    assert last["applied_revision"] == revision
    assert last["ready_models"] == {"loaded": 1, "total": 1} and not last["initializing"]
    (file,) = installed(node, sha256_of(wanted))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256_of(wanted)


def test_progress_is_reported_on_the_way(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    hub.fail(rate_bps=SLOW_BPS)
    control.assign(spec("tiny:slow", "slow.gguf"))

    def halfway() -> bool:
        report = control.reported("tiny:slow")
        return report.get("state") == "downloading" and 0 < report["bytes_done"] < SIZE and report["speed_bps"] > 0

    wait_for(halfway, "a heartbeat in the middle")
    assert control.heartbeats[-1]["initializing"]
    (shown,) = node.get("/v1/models").json()["data"]
    assert 0 < shown["progress"] < 1 and shown["eta_s"] > 0
    answer = node.chat("tiny:slow")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")
    assert "retry-after" in answer.headers
    hub.fail()
    wait_for(lambda: control.state("tiny:slow") == "ready", "ready")
    percents = [r["percent"] for r in node.get("/v0/logs?limit=2000").json()["records"] if r["event"] == "download progress"]
    assert percents == sorted(percents) and percents[-1] == 100 and len(percents) > 5


def test_killed_node_resumes_from_the_same_byte(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    hub.fail(stall_at=SIZE // 3, for_good=True)
    wanted = spec("tiny:slow", "slow.gguf")
    control.assign(wanted)
    wait_for(lambda: part_size(node, sha256_of(wanted)) > SIZE / 4, "a quarter of the file")

    node.kill()
    kept = part_size(node, sha256_of(wanted))
    before = len(reads(hub))
    hub.fail()
    node.start()

    wait_for(lambda: control.state("tiny:slow") == "ready", "ready")
    assert [(served.range, served.status) for served in reads(hub)[before:]] == [(f"bytes={kept}-", 206)]
    assert control.fetches[-1]["have_bytes"] == kept
    (file,) = installed(node, sha256_of(wanted))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256_of(wanted)


def test_killed_node_resumes_with_the_api_away(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    hub.fail(stall_at=SIZE // 3, for_good=True)
    wanted = spec("tiny:slow", "slow.gguf")
    control.assign(wanted)
    wait_for(lambda: part_size(node, sha256_of(wanted)) > 100_000, "some bytes")
    node.kill()
    control.stop()
    hub.fail()

    node.start()

    wait_for(lambda: node.chat("tiny:slow").is_success, "an answer without the API")


def test_corrupt_bytes_are_found_and_thrown_away(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    hub.fail(corrupt_at=1000)
    wanted = spec("tiny:cycle", "cycle.gguf")

    control.assign(wanted)

    wait_for(lambda: control.state("tiny:cycle") == "failed", "failed")
    error = control.reported("tiny:cycle")["error"]
    assert "cycle.gguf" in error and f"expected sha256 {sha256_of(wanted)}, got " in error
    assert installed(node, sha256_of(wanted)) == []
    assert part_size(node, sha256_of(wanted)) == 0
    answer = node.chat("tiny:cycle")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_failed")


def test_ordering_a_failed_model_again_fetches_it(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    hub.fail(corrupt_at=1000)
    wanted = spec("tiny:cycle", "cycle.gguf")
    control.assign(wanted)
    wait_for(lambda: control.state("tiny:cycle") == "failed", "failed")
    hub.fail()

    control.assign(wanted | {"generation": 2})

    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    assert control.reported("tiny:cycle")["generation"] == 2


def test_no_order_is_lost_or_ended_by_the_one_before(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    hub.fail(status=404)
    wanted = spec("tiny:cycle", "cycle.gguf")

    for generation in range(1, 20):
        control.assign(wanted | {"generation": generation})
        node.post("/v0/sync")
    hub.fail()
    control.assign(wanted | {"generation": 20})

    wait_for(lambda: control.reported("tiny:cycle").get("generation") == 20, "the last order taken up")
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    ends = [m for beat in control.heartbeats for m in beat["models"] if m["generation"] == 20]
    assert "failed" not in [report["state"] for report in ends]


def test_ordering_an_intact_model_again_only_verifies_it(
    node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec
) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    control.assign(wanted)
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    before = len(hub.served)

    control.assign(wanted | {"generation": 2})

    wait_for(lambda: control.reported("tiny:cycle")["generation"] == 2, "the new generation")
    assert control.state("tiny:cycle") == "ready"
    assert len(hub.served) == before


def test_damage_on_disk_is_found_when_ordered_again(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    control.assign(wanted)
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    (file,) = installed(node, sha256_of(wanted))
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 0xFF
    file.write_bytes(damaged)
    before = len(reads(hub))

    control.assign(wanted | {"generation": 2})

    wait_for(lambda: control.reported("tiny:cycle").get("generation") == 2 and control.state("tiny:cycle") == "ready", "ready")
    assert len(reads(hub)) == before + 1
    (file,) = installed(node, sha256_of(wanted))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256_of(wanted)


def test_a_file_that_cannot_be_read_is_damage_and_the_order_that_finds_it_ends_as_itself(
    node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec
) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    control.assign(wanted)
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    (file,) = installed(node, sha256_of(wanted))
    file.unlink()
    file.mkdir()
    hub.fail(status=404)

    control.assign(wanted | {"generation": 2})

    wait_for(lambda: ended(control, 2), "the second order failed")
    ends = [(m["generation"], m["state"]) for beat in control.heartbeats for m in beat["models"] if m["state"] == "failed"]
    assert set(ends) == {(2, "failed")}
    hub.fail()
    control.assign(wanted | {"generation": 3})
    wait_for(lambda: control.reported("tiny:cycle").get("generation") == 3 and control.state("tiny:cycle") == "ready", "ready")


def test_damage_on_disk_is_found_by_itself_and_repaired(
    make_node: Callable[..., NodeProcess], control: ControlPlane, hub: Hub, spec: Spec
) -> None:
    node = make_node(verify_interval_s=1)
    wanted = spec("tiny:cycle", "cycle.gguf")
    control.assign(wanted)
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    (file,) = installed(node, sha256_of(wanted))
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 0xFF
    # Another file at the same place: a running engine's own is not touched.
    file.with_suffix(".new").write_bytes(damaged)
    file.with_suffix(".new").replace(file)

    wait_for(lambda: len(reads(hub)) == 2, "fetched again")
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready again")

    (file,) = installed(node, sha256_of(wanted))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256_of(wanted)
    assert any(m["state"] != "ready" for beat in control.heartbeats[-100:] for m in beat["models"])


def test_interrupted_source_is_resumed(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    hub.fail(truncate_at=300_000)
    wanted = spec("tiny:cycle", "cycle.gguf")

    control.assign(wanted)

    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    first, second = reads(hub)
    assert (first.range, second.range) == ("bytes=0-", "bytes=300000-")


def test_source_without_ranges_works(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    hub.fail(no_range=True)
    control.assign(spec("tiny:cycle", "cycle.gguf"))
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")


def test_source_without_ranges_that_breaks_off_is_left(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    hub.fail(no_range=True, truncate_at=300_000)
    control.assign(spec("tiny:cycle", "cycle.gguf"))

    error = wait_for(lambda: control.reported("tiny:cycle").get("error"), "the error")
    assert "hub acme/tiny-GGUF" in error and "at 300000 of" in error and "cannot resume" in error
    hub.fail()
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready by itself once the hub is well")


def test_redirect_to_the_cdn_is_followed_without_credentials(
    make_node: Callable[..., NodeProcess], control: ControlPlane, hub: Hub, spec: Spec, tmp_path: Path
) -> None:
    hub.fail(redirect=True)
    token = tmp_path / "hub-token"
    token.write_text("hf_test\n")
    make_node(hub_token_file=str(token))

    control.assign(spec("tiny:gated", "cycle.gguf", "acme/gated-GGUF"))

    wait_for(lambda: control.state("tiny:gated") == "ready", "ready")
    asked, served = reads(hub)
    assert asked.authorized and asked.status == 302
    assert served.path.startswith("/cdn/") and not served.authorized and served.status == 206


def test_redirect_into_the_site_is_refused(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    neighbour = f"{control.url}/x"  # another service of the hub's machine
    for number, target in enumerate([neighbour, "http://169.254.169.254/latest", "http://10.0.0.1/x", "file:///etc/passwd"]):
        hub.fail(redirect_to=target)
        control.assign(wanted | {"generation": number})
        wait_for(lambda wanted=number: ended(control, wanted), "the order failed")
        error = control.reported("tiny:cycle")["error"]
        assert "hub acme/tiny-GGUF" in error and "redirects to" in error


def test_gated_repository_says_what_is_needed(node: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    control.assign(spec("tiny:gated", "cycle.gguf", "acme/gated-GGUF"))
    wait_for(lambda: control.state("tiny:gated") == "failed", "failed")
    assert "hub_token_file" in control.reported("tiny:gated")["error"]


def test_missing_file_is_named(node: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    control.sources[sha256_of(wanted)][0]["path"] = "gone.gguf"
    control.assign(wanted)
    wait_for(lambda: control.state("tiny:cycle") == "failed", "failed")
    error = control.reported("tiny:cycle")["error"]
    assert "gone.gguf" in error and "no such file" in error


def test_other_file_at_the_hub_is_refused_before_its_first_byte(
    node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec
) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    control.sources[sha256_of(wanted)][0]["path"] = "embed.gguf"
    control.assign(wanted)
    wait_for(lambda: control.state("tiny:cycle") == "failed", "failed")
    assert "the manifest says" in control.reported("tiny:cycle")["error"]
    assert reads(hub) == []


def test_hub_away_is_said_and_tried_again(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    hub.fail(status=503)
    control.assign(spec("tiny:cycle", "cycle.gguf"))
    assert "503" in wait_for(lambda: control.reported("tiny:cycle").get("error"), "the error")
    assert control.state("tiny:cycle") in ("queued", "downloading")
    hub.fail()
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")


def test_too_little_disk_fails_before_the_first_byte(
    make_node: Callable[..., NodeProcess], control: ControlPlane, hub: Hub, spec: Spec
) -> None:
    node = make_node(disk_reserve_bytes=2**60)
    wanted = spec("tiny:cycle", "cycle.gguf")

    control.assign(wanted)

    wait_for(lambda: control.state("tiny:cycle") == "failed", "failed")
    error = control.reported("tiny:cycle")["error"]
    assert f"({wanted['artifacts'][0]['size']} bytes)" in error and f"({2**60} bytes)" in error and "free" in error
    assert reads(hub) == [] and control.fetches == []
    assert part_size(node, sha256_of(wanted)) == 0


def test_waits_for_its_turn(node: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    control.queue_answers = 3
    control.assign(spec("tiny:cycle", "cycle.gguf"))
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    assert len(control.fetches) == 4


def test_models_travel_in_the_manifests_order_also_when_it_changes(
    node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec
) -> None:
    hub.fail(rate_bps=SLOW_BPS)
    slow, wide, cycle = (spec(f"tiny:{name}", f"{name}.gguf") for name in ("slow", "wide", "cycle"))
    control.assign(slow, cycle, wide)
    wait_for(lambda: control.state("tiny:slow") == "downloading", "the first on its way")

    revision = control.assign(slow, wide, cycle)
    wait_for(lambda: control.last["applied_revision"] == revision, "the other order")
    hub.fail()

    wait_for(lambda: control.last.get("ready_models") == {"loaded": 3, "total": 3}, "all ready")
    assert [served.path.rpartition("/")[2] for served in reads(hub)] == ["slow.gguf", "wide.gguf", "cycle.gguf"]


def test_removes_what_is_listed_and_nothing_else(node: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    cycle, embed = spec("tiny:cycle", "cycle.gguf"), spec("tiny:embed", "embed.gguf")
    control.assign(cycle, embed)
    wait_for(lambda: control.last.get("ready_models") == {"loaded": 2, "total": 2}, "both ready")

    control.assign()
    wait_for(lambda: {control.state("tiny:cycle"), control.state("tiny:embed")} == {"orphaned"}, "both orphaned")
    assert installed(node, sha256_of(cycle)) and installed(node, sha256_of(embed))

    control.assign(remove=(sha256_of(cycle),))
    wait_for(lambda: control.state("tiny:cycle") == "", "one gone")
    assert installed(node, sha256_of(cycle)) == []
    assert control.state("tiny:embed") == "orphaned" and installed(node, sha256_of(embed))

    control.assign(embed)
    wait_for(lambda: control.state("tiny:embed") == "ready", "the orphan taken up again")


def test_running_model_is_removed(node: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    control.assign(wanted)
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")

    control.assign(remove=(sha256_of(wanted),))

    wait_for(lambda: not (node.store_dir / "artifacts" / sha256_of(wanted)).exists(), "the file gone")
    wait_for(lambda: control.last["models"] == [], "nothing reported")
    assert node.chat("tiny:cycle").status_code == 404


def test_model_that_is_wanted_again_while_it_goes_stays(node: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    wanted = spec("tiny:slow", "slow.gguf", context=1024)
    control.assign(wanted)
    wait_for(lambda: control.state("tiny:slow") == "ready", "ready")
    asking = threading.Thread(target=lambda: node.chat("tiny:slow", max_tokens=300))
    asking.start()
    wait_for(lambda: node.status()["in_flight"] == 1, "a request that holds the engine")

    control.assign(remove=(sha256_of(wanted),))
    wait_for(lambda: control.state("tiny:slow") == "removing", "removing")
    control.assign(wanted)

    wait_for(lambda: control.state("tiny:slow") == "ready", "ready again")
    asking.join(60)
    assert installed(node, sha256_of(wanted))


def test_cancelled_download_keeps_its_part(node: NodeProcess, control: ControlPlane, hub: Hub, spec: Spec) -> None:
    hub.fail(stall_at=SIZE // 3, for_good=True)
    slow, cycle = spec("tiny:slow", "slow.gguf"), spec("tiny:cycle", "cycle.gguf")
    control.assign(slow)
    wait_for(lambda: part_size(node, sha256_of(slow)) > 100_000, "some bytes")

    control.assign(cycle)

    wait_for(lambda: control.state("tiny:cycle") == "ready", "the other model ready")
    hub.fail()
    assert control.state("tiny:slow") == ""
    kept = part_size(node, sha256_of(slow))
    assert kept > 100_000
    control.assign(cycle, slow)
    wait_for(lambda: control.state("tiny:slow") == "ready", "the first one ready")
    assert f"bytes={kept}-" in [served.range for served in reads(hub)]
