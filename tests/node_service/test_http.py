"""The node's own paths: keys, shapes, logs, metrics."""

import asyncio

import pytest

from tests.node_service.control_plane import ControlPlane
from tests.node_service.process import NodeProcess
from tests.processes import wait_for
from tests.wire import HUGE_HEAD, MIB, talk

PATHS = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/tiny:model"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/api/tags"),
    ("GET", "/v0/status"),
    ("POST", "/v0/sync"),
    ("GET", "/v0/logs"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/"),
    ("GET", "/nowhere"),
]


def test_every_path_needs_the_key(serving: NodeProcess) -> None:
    for key in ("wrong", serving.key + "x", "ключ"):
        for method, path in PATHS:
            answer = serving.request(method, path, headers={"authorization": f"Bearer {key}".encode()})
            error = answer.json()["error"]
            assert (path, answer.status_code, error["code"]) == (path, 401, "invalid_api_key")
            assert set(error) == {"message", "type", "param", "code"}
            assert answer.headers["www-authenticate"] == "Bearer"


def test_healthz_needs_no_key(serving: NodeProcess) -> None:
    answer = serving.get("/healthz", key="none")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v0/status", 405, "method_not_allowed"),
        ("GET", "/v0/logs?limit=many", 400, "invalid_request"),
        ("GET", "/v0/logs?limit=0", 400, "invalid_request"),
        ("GET", "/v1/models/a/b:c", 404, "model_not_found"),
    ],
)
def test_errors_have_the_openai_shape(serving: NodeProcess, method: str, path: str, status: int, code: str) -> None:
    answer = serving.request(method, path)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert set(error) == {"message", "type", "param", "code"}


def test_a_head_without_end_is_cut_off_early(serving: NodeProcess) -> None:
    heard = asyncio.run(talk(serving.url, HUGE_HEAD))
    assert (heard.statuses, heard.closed) == ([431], True)
    assert b'"code": "request_header_fields_too_large"' in heard.back
    assert heard.sent_bytes < 32 * MIB


def test_status_has_the_fields_of_the_contract(node: NodeProcess, control: ControlPlane) -> None:
    wait_for(lambda: control.heartbeats, "a heartbeat")
    status = wait_for(lambda: (s := node.status())["state"] == "online" and s, "the state that the API answered")
    assert status["node_id"] == control.node_id
    assert status["registered"] and not status["draining"]
    assert (status["admission"], status["in_flight"], status["models"]) == ("open", 0, [])
    assert status["hardware"]["gpus"] == []
    assert {"instance_id", "version", "applied_revision", "errors"} <= set(status)


def test_models_are_shown_in_both_shapes(serving: NodeProcess) -> None:
    shown = {m["id"]: m for m in serving.get("/v1/models").json()["data"]}["tiny:model"]
    tag = {m["name"]: m for m in serving.get("/api/tags").json()["models"]}["tiny:model"]

    assert (shown["object"], shown["state"], shown["progress"]) == ("model", "ready", 1.0)
    assert serving.get("/v1/models/tiny:model").json() == shown
    assert tag["size"] == shown["bytes_total"]
    assert (serving.store_dir / "artifacts" / tag["digest"] / "cycle.gguf").stat().st_size == tag["size"]


def test_logs_are_records_without_secrets(node: NodeProcess, control: ControlPlane) -> None:
    wait_for(lambda: control.heartbeats, "a heartbeat")

    records = node.get("/v0/logs?limit=2&level=info").json()["records"]

    assert len(records) == 2
    assert all({"event", "level", "at"} <= set(record) for record in records)
    everything = node.log_file.read_text() + node.get("/v0/logs?limit=2000").text
    assert not any(secret in everything for secret in (node.key, "token-1", "ticket-1"))


def test_metrics_are_prometheus(serving: NodeProcess) -> None:
    serving.chat("tiny:model")

    text = serving.get("/metrics").text

    assert 'muster_node_model_ready{model="tiny:model"} 1.0' in text
    assert 'muster_node_requests_total{model="tiny:model",status="200"}' in text
    assert "muster_node_in_flight 0.0" in text
