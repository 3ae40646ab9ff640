"""Registration, heartbeats, and what happens when the control API is away or forgets the node."""

import stat
from collections.abc import Callable
from typing import Any

from tests.node_service.control_plane import ControlPlane
from tests.node_service.process import NodeProcess
from tests.processes import wait_for


def test_registers_with_its_ticket_and_deletes_it(node: NodeProcess, control: ControlPlane) -> None:
    wait_for(lambda: control.heartbeats, "a heartbeat")

    (facts,) = control.registrations
    assert (facts["name"], facts["base_url"], facts["tags"]) == ("gpu-01", node.url, ["site:tokyo"])
    assert facts["inference_key"] == node.key
    assert facts["hardware"]["cpu"]["cores"] >= 1
    assert facts["hardware"]["memory_total"] > 2**28
    assert facts["hardware"]["platform"].startswith("linux/")
    assert not node.ticket_file.exists()


def test_identity_is_private(node: NodeProcess, control: ControlPlane) -> None:
    wait_for(lambda: control.heartbeats, "a heartbeat")

    assert stat.S_IMODE(node.state_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((node.state_dir / "identity.json").stat().st_mode) == 0o600
    assert node.key not in node.log_file.read_text()


def test_heartbeat_has_the_fields_of_the_contract(node: NodeProcess, control: ControlPlane) -> None:
    wait_for(lambda: len(control.heartbeats) >= 3, "three heartbeats")

    first, second = control.heartbeats[:2]
    assert first["instance_id"] == control.registrations[0]["instance_id"] == second["instance_id"]
    assert second["seq"] == first["seq"] + 1
    wanted = {"applied_revision", "initializing", "ready_models", "models", "gpus", "disk", "version"}
    assert wanted <= set(first)
    assert first["disk"]["free"] > 0


def test_restart_keeps_the_identity(node: NodeProcess, control: ControlPlane) -> None:
    wait_for(lambda: control.heartbeats, "a heartbeat")
    before, key = control.heartbeats[-1]["instance_id"], node.key
    node.kill()

    node.start()

    wait_for(lambda: control.heartbeats[-1]["instance_id"] != before, "a heartbeat of the new process")
    assert len(control.registrations) == 1
    assert node.key == key


def test_new_token_is_stored_before_it_is_used(node: NodeProcess, control: ControlPlane) -> None:
    wait_for(lambda: control.heartbeats, "a heartbeat")

    control.next_token = "token-2"

    wait_for(lambda: control.tokens_seen[-1] == "token-2", "the new token in use")
    assert node.identity()["token"] == "token-2"
    node.kill()
    node.start()
    seen = len(control.tokens_seen)
    wait_for(lambda: len(control.tokens_seen) > seen, "a heartbeat after the restart")
    assert set(control.tokens_seen[seen:]) == {"token-2"}


def test_forgotten_node_says_so_and_takes_a_new_ticket(node: NodeProcess, control: ControlPlane) -> None:
    wait_for(lambda: control.heartbeats, "a heartbeat")

    control.known = False

    text = wait_for(lambda: node.problem("enrolment_required"), "the problem in /v0/status")
    assert str(node.ticket_file) in text
    control.tickets.add("ticket-2")
    node.ticket_file.write_text("ticket-2")
    wait_for(lambda: len(control.registrations) == 2, "a second registration")
    wait_for(lambda: not node.problem("enrolment_required"), "the problem gone")
    assert not node.ticket_file.exists()


def test_refused_ticket_is_shown_and_not_tried_again(make_node: Callable[..., NodeProcess], control: ControlPlane) -> None:
    control.tickets = {"another"}

    node = make_node()

    assert "ticket_invalid" in wait_for(lambda: node.problem("enrolment_required"), "the problem in /v0/status")
    assert not node.status()["registered"]
    node.ticket_file.write_text("another")
    wait_for(lambda: control.registrations, "registration with the right ticket", 30)


def test_api_away_is_shown_and_survived(node: NodeProcess, control: ControlPlane) -> None:
    wait_for(lambda: control.heartbeats, "a heartbeat")

    control.stop()

    assert control.url in wait_for(lambda: node.problem("control_unreachable"), "the problem in /v0/status")
    seen = len(control.heartbeats)
    control.start()
    wait_for(lambda: len(control.heartbeats) > seen, "heartbeats again")
    wait_for(lambda: not node.problem("control_unreachable"), "the problem gone")


def test_restart_with_the_api_away_serves_the_last_manifest(
    node: NodeProcess, control: ControlPlane, spec: Callable[..., dict[str, Any]]
) -> None:
    control.assign(spec("tiny:cycle", "cycle.gguf"))
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    node.kill()
    control.stop()

    node.start()

    wait_for(lambda: node.chat("tiny:cycle").is_success, "an answer without the API")
    assert node.status()["applied_revision"] == 2


def test_manifest_of_another_store_is_refused(
    node: NodeProcess, control: ControlPlane, spec: Callable[..., dict[str, Any]]
) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    control.assign(wanted)
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")

    control.assign(store_id="store-b", remove=(wanted["artifacts"][0]["sha256"],))

    assert "store-b" in wait_for(lambda: node.problem("manifest_refused"), "the problem in /v0/status")
    (error,) = wait_for(lambda: control.last["errors"], "the problem in a heartbeat")
    assert error["code"] == "manifest_refused"
    assert node.chat("tiny:cycle").is_success


def test_sync_reports_at_once(make_node: Callable[..., NodeProcess], control: ControlPlane) -> None:
    node = make_node()
    wait_for(lambda: control.heartbeats, "a heartbeat")

    answer = node.post("/v0/sync")

    assert answer.status_code == 202
    seen = len(control.heartbeats)
    wait_for(lambda: len(control.heartbeats) > seen, "another heartbeat")


def test_nobody_else_writes_where_it_keeps_things_whatever_the_umask(
    make_node: Callable[..., NodeProcess], control: ControlPlane, spec: Callable[..., dict[str, Any]]
) -> None:
    node = make_node(umask=0)
    control.assign(spec("tiny:cycle", "cycle.gguf"))
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    assert open_to_others(node) == {}
    node.kill()
    for path in (node.state_dir, node.store_dir, *node.state_dir.rglob("*"), *node.store_dir.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)

    node.start()

    assert open_to_others(node) == {}


def open_to_others(node: NodeProcess) -> dict[str, str]:
    """Return what others may write to in the store, and what they may even read of the state."""
    modes = {
        path: (path.stat().st_mode, 0o022) for path in (node.store_dir, *node.store_dir.rglob("*")) if not path.is_symlink()
    }
    modes |= {path: (path.stat().st_mode, 0o077) for path in (node.state_dir, *node.state_dir.rglob("*"))}
    return {path.name: oct(mode) for path, (mode, rights) in modes.items() if mode & rights}
