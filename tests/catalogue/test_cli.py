"""``muster models`` against an API with a local hub."""

import json

import pytest

from tests.cli.test_cli import muster
from tests.running import Api

pytestmark = pytest.mark.anyio


async def test_a_model_is_registered_with_context_and_slots_and_shown_in_parts(api: Api) -> None:
    done = await muster(api, "models", "register", "smollm2:135m", "--slots", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["params"]["slots"] == 2

    shown = (await muster(api, "models", "show", "smollm2:135m")).stdout

    assert [
        part for part in ("KV cache, 2 slots of 2048 tokens", "weights", "compute buffer", "all together") if part not in shown
    ] == []
    assert "Estimated" not in shown


async def test_an_estimate_says_that_it_is_one(api: Api) -> None:
    await muster(api, "models", "register", "lab/many-GGUF:q8_0", "--id", "many:q8_0")

    shown = (await muster(api, "models", "show", "many:q8_0")).stdout

    assert "Estimated by the size of its files: its version is" in shown


@pytest.mark.parametrize(
    ("option", "value"), [("--context", "5"), ("--slots", "0"), ("--slots", "many"), ("--kv-cache-type", "q3")]
)
async def test_what_cannot_be_is_named(api: Api, option: str, value: str) -> None:
    done = await muster(api, "models", "register", "smollm2:135m", option, value)

    assert done.returncode == 2
    assert option in done.stderr or "kv_cache_type" in done.stderr
    assert "Traceback" not in done.stderr


async def test_how_an_engine_runs_a_model_is_set_and_given_back(api: Api) -> None:
    before = json.loads((await muster(api, "models", "register", "smollm2:135m", "--json")).stdout)

    options = ("--engine", "llama-cuda", "--threads", "2", "--kv-cache-type", "q8_0")
    changed = json.loads((await muster(api, "models", "configure", "smollm2:135m", *options, "--json")).stdout)
    back = await muster(api, "models", "configure", "smollm2:135m", "--reset", "threads", "--reset", "kv-cache-type", "--json")

    assert (before["engine"], changed["engine"]) == ("", "llama-cuda")
    assert changed["params"] == before["params"] | {"threads": 2, "kv_cache_type": "q8_0"}
    saved = before["required_memory_bytes"] - changed["required_memory_bytes"]
    assert saved == pytest.approx(before["memory"]["kv_cache_bytes"] * (1 - 8.5 / 16), abs=1)
    assert json.loads(back.stdout)["params"] == before["params"]
    assert json.loads(back.stdout)["required_memory_bytes"] == before["required_memory_bytes"]


async def test_options_that_do_not_go_together_are_refused(api: Api) -> None:
    await muster(api, "models", "register", "smollm2:135m")
    await muster(api, "models", "configure", "smollm2:135m", "--flash-attention", "off")

    refused = await muster(api, "models", "configure", "smollm2:135m", "--kv-cache-type", "q4_0")
    unknown = await muster(api, "models", "configure", "smollm2:135m", "--kv-cache-type", "q3_k")

    assert refused.returncode != 0
    assert "kv_cache_type q4_0 needs flash attention" in refused.stderr
    assert unknown.returncode == 2
