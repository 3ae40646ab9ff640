"""Where models would go on hardware to come, and the settings that decide it: over HTTP and on the command line."""

import json
from typing import Any

import pytest

from tests.cli.test_cli import muster
from tests.distribution.fleet import GIB, new_model, new_node
from tests.running import Api

pytestmark = pytest.mark.anyio


def planned(name: str, *gpus: int, ram: int = 0, **fields: Any) -> dict[str, Any]:
    hardware = {"gpus": [{"index": i, "memory_total": size} for i, size in enumerate(gpus)], "memory_total": ram}
    return {"name": name, "hardware": hardware | {"disk_free": 1 << 40}, **fields}


async def plan(api: Api, nodes: list[dict[str, Any]], **fields: Any) -> dict[str, dict[str, tuple[str | None, list[str]]]]:
    response = await api.http.post("/v0/plan/placement", json={"nodes": nodes, **fields})
    assert response.status_code == 200, response.text
    found = response.json()["nodes"]
    return {n["name"]: {m["model_id"]: (m["residency"], m["gpus"]) for m in n["models"]} for n in found}


async def test_the_supported_models_on_hardware_to_be_bought(api: Api) -> None:
    nodes = [planned("l4", 24 * GIB), planned("two-l4", 24 * GIB, 24 * GIB), planned("h100", 80 * GIB)]
    models = ["gpt-oss:20b", "qwen3-coder:30b", "gpt-oss:120b"]

    assert await plan(api, nodes, models=models, policy="registered") == {
        "l4": {"gpt-oss:20b": ("resident", []), "qwen3-coder:30b": ("on_demand", []), "gpt-oss:120b": (None, [])},
        "two-l4": {
            "gpt-oss:20b": ("resident", ["gpu-0"]),
            "qwen3-coder:30b": ("resident", ["gpu-1"]),
            "gpt-oss:120b": (None, []),
        },
        "h100": {"gpt-oss:20b": ("resident", []), "qwen3-coder:30b": ("resident", []), "gpt-oss:120b": ("on_demand", [])},
    }
    assert await plan(api, nodes, models=models, policy="best-fit") == {
        "l4": {"qwen3-coder:30b": ("resident", [])},
        "two-l4": {"qwen3-coder:30b": ("resident", ["gpu-0"])},
        "h100": {"gpt-oss:120b": ("resident", [])},
    }


async def test_a_plan_changes_nothing_and_names_what_is_left_and_why_not(api: Api) -> None:
    await new_model(api, "a", needs=["gpu-a"])
    await new_model(api, "b")
    body = {"nodes": [planned("small", ram=GIB), planned("tagged", ram=4 * GIB, tags=["gpu-a"])], "memory_reserve_bytes": 0}

    made = (await api.http.post("/v0/plan/placement", json=body)).json()

    small, tagged = made["nodes"]
    assert [m["reason"] for m in small["models"]] == ["is not tagged gpu-a, which a:1b needs; it has no tags", None]
    assert [m["residency"] for m in tagged["models"]] == ["resident", "resident"]
    assert (small["memory_free_bytes"], small["memory_total_bytes"]) == (GIB - (512 << 20) - 2400, GIB)
    assert (await api.http.get("/v0/tasks")).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"nodes": []}, 422, "nodes"),
        ({"nodes": [planned("a b")]}, 422, "name"),
        ({"nodes": [planned("a", -1)]}, 422, "memory_total"),
        ({"nodes": [planned("a")], "policy": "most"}, 422, "policy"),
        ({"nodes": [planned("a")], "models": ["nobody:1b"]}, 404, "nobody:1b"),
    ],
)
async def test_what_cannot_be_planned_is_named(api: Api, body: dict[str, Any], status: int, named: str) -> None:
    response = await api.http.post("/v0/plan/placement", json=body)

    assert response.status_code == status
    assert named in response.text


async def test_the_command_line_plans_and_explains(api: Api) -> None:
    asked = ["--node", "l4:gpu=24GiB,ram=64GiB,disk=1TB", "--node", "cpu:ram=8G,tag=site:tokyo", "--model", "gpt-oss:20b"]

    shown = await muster(api, "models", "plan", *asked)
    as_json = await muster(api, "models", "plan", *asked, "--json")

    assert shown.returncode == 0, shown.stderr
    assert "l4: " in shown.stdout and "GPU memory left" in shown.stdout
    assert "needs 12.8 GiB of RAM, but 7.5 GiB of 8.0 GiB are free" in shown.stdout
    assert [n["models"][0]["residency"] for n in json.loads(as_json.stdout)["nodes"]] == ["resident", None]


@pytest.mark.parametrize("node", ["a:gpu=many", "a:tpu=3", "a b:ram=1G", "a:ram"])
async def test_a_node_that_cannot_be_is_named(api: Api, node: str) -> None:
    done = await muster(api, "models", "plan", "--node", node)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "gpu=24GiB" in done.stderr


async def test_the_command_line_changes_settings_and_tells_who_did(api: Api) -> None:
    done = await muster(api, "settings", "set", "auto_distribution=best-fit", "disk_reserve_bytes=5", "--json")
    assert {s["name"]: s["value"] for s in json.loads(done.stdout)}["auto_distribution"] == "best-fit", done.stderr

    await muster(api, "settings", "set", "auto_distribution=")

    assert "api_key:bootstrap" in (await muster(api, "settings", "log")).stdout
    listed = json.loads((await muster(api, "settings", "list", "--json")).stdout)
    assert {s["name"]: s["value"] for s in listed}["auto_distribution"] == "off"
    wrong = await muster(api, "settings", "set", "auto_distribution=sometimes")
    assert wrong.returncode == 1
    assert "auto_distribution" in wrong.stderr
    assert (await muster(api, "settings", "set", "nonsense")).returncode == 2


async def test_the_command_line_tells_what_shall_be_on_a_node_and_why_not(api: Api) -> None:
    await muster(api, "settings", "set", "auto_distribution=registered")
    node = await new_node(api, "gpu-01", memory_bytes=5 * GIB // 4)
    assert "No model shall be on this node" in (await muster(api, "nodes", "models", "gpu-01")).stdout
    await new_model(api, "a")
    await new_model(api, "b")
    await new_model(api, "c", needs=["gpu-a"])

    shown = (await muster(api, "nodes", "models", "gpu-01")).stdout
    assert [word for word in ("resident", "on_demand", "absent", "256.0 MiB of 1.2 GiB are free") if word not in shown] == []
    assert "c:1b" not in shown

    tagged = await muster(api, "nodes", "tag", "gpu-01", "gpu-a")
    assert "gpu-01 is tagged gpu-a." in tagged.stdout, tagged.stderr
    listed = json.loads((await muster(api, "nodes", "models", node.id, "--json")).stdout)
    assert [a["model_id"] for a in listed] == ["a:1b", "b:1b", "c:1b"]
