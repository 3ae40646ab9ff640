"""Peers and the pass-through, artifacts served to peers, and names that try to get out."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from node_service.weights.store import safe_name
from tests.hub import Hub
from tests.node_service.control_plane import ControlPlane, artifact, model
from tests.node_service.process import NodeProcess
from tests.processes import wait_for

type Spec = Callable[..., dict[str, Any]]


def ticket(key: str, digest: str, *, asker: str = "node-b", valid_s: float = 600) -> str:
    """Return a ticket as the control API signs it."""
    claims = {"sha256": digest, "asker": asker, "exp": int(time.time() + valid_s)}
    payload = json.dumps(claims).encode()
    mac = hmac.digest(key.encode(), payload, hashlib.sha256)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (payload, mac))


@pytest.fixture
def seeded(node: NodeProcess, control: ControlPlane, spec: Spec) -> tuple[NodeProcess, dict[str, Any]]:
    """A node that holds a model, and that model."""
    wanted = spec("tiny:cycle", "cycle.gguf")
    control.assign(wanted)
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    return node, wanted


def test_artifact_is_served_with_a_ticket(seeded: tuple[NodeProcess, dict[str, Any]], tiny_models: Path) -> None:
    node, wanted = seeded
    digest = wanted["artifacts"][0]["sha256"]
    content = (tiny_models / "acme/tiny-GGUF/cycle.gguf").read_bytes()

    answer = node.get(f"/v0/artifacts/{digest}", key=ticket(node.key, digest), headers={"range": "bytes=1000-"})

    assert answer.status_code == 206 and answer.content == content[1000:]
    assert answer.headers["content-range"] == f"bytes 1000-{len(content) - 1}/{len(content)}"


def test_artifact_needs_a_ticket_of_its_own(seeded: tuple[NodeProcess, dict[str, Any]]) -> None:
    node, wanted = seeded
    digest = wanted["artifacts"][0]["sha256"]
    good = ticket(node.key, digest)
    wrong = [
        "x",
        "x.y",
        good[:-4] + "AAAA",
        node.key,
        ticket("another key", digest),
        ticket(node.key, "0" * 64),
        ticket(node.key, digest, valid_s=-1),
        good.replace(good.split(".")[0], base64.urlsafe_b64encode(b"[]").decode()),
    ]
    assert [node.get(f"/v0/artifacts/{digest}", key=key).status_code for key in wrong] == [401] * len(wrong)


def test_absent_artifact_is_not_found(node: NodeProcess) -> None:
    absent = "0" * 64
    answer = node.get(f"/v0/artifacts/{absent}", key=ticket(node.key, absent))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "artifact_not_found")


def test_fetches_from_a_peer(
    seeded: tuple[NodeProcess, dict[str, Any]], make_node: Callable[..., NodeProcess], control: ControlPlane
) -> None:
    peer, wanted = seeded
    digest = wanted["artifacts"][0]["sha256"]
    url = f"{peer.url}/v0/artifacts/{digest}"
    control.sources[digest] = [{"kind": "peer", "node_id": "node-a", "url": url, "ticket": ticket(peer.key, digest)}]
    control.tickets.add("ticket-1")

    asker = make_node()

    wait_for(lambda: asker.chat("tiny:cycle").is_success, "the second node answers")
    assert any(r["event"] == "fetching" and "peer" in r["source"] for r in asker.get("/v0/logs").json()["records"])


def test_goes_on_with_the_next_source(node: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    digest = wanted["artifacts"][0]["sha256"]
    dead = {"kind": "peer", "node_id": "node-x", "url": "http://127.0.0.1:9/v0/artifacts/x", "ticket": "t"}
    control.sources[digest].insert(0, dead)

    control.assign(wanted)

    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    assert len(control.fetches) == 2


def test_every_source_that_failed_is_named(node: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    digest = wanted["artifacts"][0]["sha256"]
    control.sources[digest][0]["repo"] = "acme/nowhere"
    control.sources[digest].append({"kind": "pass_through", "url": "http://elsewhere.example/v0/hub/x"})

    control.assign(wanted)

    wait_for(lambda: control.state("tiny:cycle") == "failed", "failed")
    error = control.reported("tiny:cycle")["error"]
    assert "hub acme/nowhere" in error and "no such repository" in error
    assert "pass-through /v0/hub/x: not an address of the control API" in error


def test_pass_through_is_asked_at_the_control_api(node: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    digest = wanted["artifacts"][0]["sha256"]
    control.sources[digest] = [{"kind": "pass_through", "url": "/v0/hub/acme/cycle.gguf"}]

    control.assign(wanted)

    wait_for(lambda: control.state("tiny:cycle") == "failed", "failed, because this API has no pass-through")
    assert "pass-through /v0/hub/acme/cycle.gguf: answered 404" in control.reported("tiny:cycle")["error"]


NAMES = [
    "../../../escape.gguf",
    "/etc/cron.d/escape.gguf",
    "..",
    ".about.json",
    "nul\0byte.gguf",
    "{{ lookup('pipe','touch /tmp/owned') }}.gguf",
    "$(touch owned);`id`.gguf",
    "line\nbreak.gguf",
    "日本語.gguf",
    "x" * 1_000_000 + ".gguf",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:24]))
def test_safe_name_stays_in_its_directory(name: str) -> None:
    safe = safe_name(name)
    assert safe not in ("", ".", "..") and "/" not in safe and not safe.startswith(".")
    assert safe.isascii() and len(safe) <= 200


def test_names_never_leave_the_store(node: NodeProcess, control: ControlPlane, tiny_models: Path, spec: Spec) -> None:
    path = tiny_models / "acme/tiny-GGUF/cycle.gguf"
    content = path.read_bytes()
    source = spec("tiny:cycle", "cycle.gguf")
    digest = source["artifacts"][0]["sha256"]
    before = set(node.directory.rglob("*"))

    for number, name in enumerate(NAMES):
        model_id = f"tiny:named-{number}"
        control.assign(model(model_id, artifact(name, content)))
        wait_for(lambda wanted=model_id: control.state(wanted) == "ready", f"ready with the name {name[:30]!r}")
        control.assign(remove=(digest,))
        wait_for(lambda: control.last["models"] == [], "gone")

    outside = {p for p in node.directory.rglob("*") if not p.is_relative_to(node.store_dir)} - before
    assert {p.name for p in outside} <= {"manifest.json"}
    assert not Path("/tmp/owned").exists() and not Path("owned").exists()


def test_what_a_node_does_not_understand_of_a_manifest_costs_no_other_model_anything(
    node: NodeProcess, control: ControlPlane, spec: Spec
) -> None:
    wanted = spec("tiny:cycle", "cycle.gguf")
    evil = model("tiny:evil", {"name": "x", "size": 1, "sha256": "../../etc/passwd"})
    newer = [wanted | {"id": "tiny:newer", "residency": "sometimes"}, wanted | {"id": "tiny:other", "engine": "warp"}]
    control.assign(evil, *newer, wanted, wanted | {"id": "{{ 1 }}"}, "nonsense", remove=("x",))
    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")

    for model_id, said in {"tiny:evil": "artifacts.0.sha256", "tiny:newer": "residency", "tiny:other": "warp"}.items():
        wait_for(lambda wanted=model_id: control.state(wanted) == "failed", model_id)
        assert said in control.reported(model_id)["error"]
    assert "id" in wait_for(lambda: node.problem("assignment_refused"), "the problem")
    assert control.last["ready_models"] == {"loaded": 1, "total": 4}

    node.kill()
    node.start()
    wait_for(lambda: control.last["ready_models"] == {"loaded": 1, "total": 4}, "the same again from the disk")
    control.manifest = {"revision": control.manifest["revision"] + 1, "models": "nonsense"}
    assert "manifest" in wait_for(lambda: node.problem("control_refused"), "the problem")
    assert node.chat("tiny:cycle").is_success


def test_split_model_is_one_model(node: NodeProcess, control: ControlPlane, tiny_models: Path, spec: Spec) -> None:
    first = spec("a:first", "cycle.gguf")["artifacts"][0]
    second = spec("a:second", "embed.gguf")["artifacts"][0]
    parts = [second | {"name": "m-00002-of-00002.gguf"}, first | {"name": "m-00001-of-00002.gguf"}]

    control.assign(model("tiny:split", *parts))

    wait_for(lambda: control.state("tiny:split") == "ready", "ready")
    report = control.reported("tiny:split")
    assert report["bytes_done"] == report["size"] == first["size"] + second["size"]
    together = {p.name for p in next((node.store_dir / "models").iterdir()).iterdir()}
    assert together == {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}


def test_keys_of_others_do_not_open_anything(node: NodeProcess) -> None:
    with httpx2.Client(base_url=node.url) as http:
        assert http.get("/v0/artifacts/" + "0" * 64).status_code == 401


def test_a_node_without_a_hub_of_its_own_uses_the_control_planes_and_keeps_its_token(
    make_node: Callable[..., NodeProcess], control: ControlPlane, hub: Hub, spec: Spec, tmp_path: Path
) -> None:
    token = tmp_path / "hub-token"
    token.write_text("hf_secret")
    wanted = spec("tiny:cycle", "cycle.gguf")
    control.sources = {
        digest: [{**source, "endpoint": hub.url} for source in sources] for digest, sources in control.sources.items()
    }
    control.assign(wanted)

    make_node(hub_endpoint=None, hub_token_file=str(token))

    wait_for(lambda: control.state("tiny:cycle") == "ready", "ready")
    assert hub.served
    assert not any(request.authorized for request in hub.served)
