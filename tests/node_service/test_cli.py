"""The command: its help, its checks, and what it refuses."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.node_service.process import PYTHON

_REPOSITORY = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `muster-node` to its end."""
    return subprocess.run(
        [PYTHON, "-m", "node_service", *arguments],
        cwd=_REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """The least configuration that works here."""
    return {
        "name": "gpu-01",
        "api_url": "http://control-api:8080",
        "base_url": "http://10.77.0.11:8090",
        "store_dir": str(tmp_path / "models"),
        "state_dir": str(tmp_path / "state"),
        "require_gpu": False,
    }


def write(tmp_path: Path, config: Any) -> str:
    """Write a configuration and return its path."""
    path = tmp_path / "node.json"
    path.write_text(json.dumps(config))
    return str(path)


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("muster-node 0.")
    shown = run("--help").stdout
    assert "serve" in shown and "check" in shown


def test_good_configuration_passes_and_changes_nothing(tmp_path: Path, config: dict[str, Any]) -> None:
    done = run("check", "--config", write(tmp_path, config))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok: gpu-01")
    assert [path.name for path in tmp_path.iterdir()] == ["node.json"]


def test_each_wrong_key_is_a_line(tmp_path: Path, config: dict[str, Any]) -> None:
    wrong = {
        "nmae": "x",
        "name": "a\0b",
        "api_url": "control-api:8080",
        "listen_port": 70000,
        "engine": "vroom",
        "slots": "many",
    }
    del config["base_url"]

    done = run("check", "--config", write(tmp_path, config | wrong))

    assert done.returncode == 2
    said = {line.split(":")[1].strip(): line for line in done.stderr.splitlines()}
    assert set(said) == {*wrong, "base_url"}
    assert said["nmae"] == "error: nmae: unknown key"
    assert said["base_url"] == "error: base_url: required"
    assert said["api_url"] == "error: api_url: must be an http:// or https:// address without query"


def test_each_wrong_path_is_a_line(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / "file").touch()
    wrong = {"ca_bundle": "/nowhere.pem", "hub_token_file": "/nowhere", "store_dir": str(tmp_path / "file" / "models")}

    done = run("check", "--config", write(tmp_path, config | wrong))

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: store_dir: cannot write to {wrong['store_dir']}",
        "error: ca_bundle: cannot read /nowhere.pem",
        "error: hub_token_file: cannot read /nowhere",
    ]


@pytest.mark.parametrize(
    ("command", "content", "says"),
    [("check", "{", "not JSON"), ("serve", "[]", "must be a JSON object"), ("serve", None, "No such file")],
)
def test_unreadable_configuration_is_said(tmp_path: Path, command: str, content: str | None, says: str) -> None:
    path = tmp_path / "node.json"
    if content is not None:
        path.write_text(content)
    done = run(command, "--config", str(path))
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr


def test_environment_wins_over_the_file(tmp_path: Path, config: dict[str, Any]) -> None:
    done = run("check", "--config", write(tmp_path, config), MUSTER_NODE_NAME="gpu-02")
    assert done.stdout.startswith("ok: gpu-02")


def test_damaged_identity_is_said(tmp_path: Path, config: dict[str, Any]) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "identity.json").write_text("{")
    done = run("serve", "--config", write(tmp_path, config))
    assert done.returncode == 2
    assert "identity.json" in done.stderr and "Traceback" not in done.stderr


def test_what_it_says_cannot_act_on_a_terminal(config: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "node.json"
    file.write_text(json.dumps(config | {"store_dir": f"{file}/\x1b]0;t\x07\x9b\u202e\nerror: faked"}))

    said = run("check", "--config", str(file))

    assert said.returncode == 2
    assert said.stderr == f"error: store_dir: cannot write to {file}/\\x1b]0;t\\x07\\x9b\\u202e\\nerror: faked\n"


def test_the_node_shows_foreign_text_as_the_control_plane_does() -> None:
    """The node imports nothing of the control plane, so it has a copy."""
    control, node = (_REPOSITORY / package / "text.py" for package in ("control_api/kit", "node_service"))
    assert node.read_text() == control.read_text()
