"""Parameters of a model: each reaches the real engine, and a wrong one is that model's failure alone."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.node_service.control_plane import ControlPlane
from tests.node_service.process import NodeProcess
from tests.processes import wait_for

type Spec = Callable[..., dict[str, Any]]
type MakeNode = Callable[..., NodeProcess]

CHOSEN = {"context": 768, "slots": 3, "threads": 1, "gpu_layers": 2, "flash_attention": "on", "kv_cache_type": "q8_0"}


def start(make_node: MakeNode, control: ControlPlane, spec: Spec, engine: str, **params: Any) -> dict[str, str]:
    """Load a model with these parameters and return what the engine says of itself."""
    node = make_node(engine=engine, log_level="debug", engine_threads=None, context=512, slots=2)
    control.assign(spec("tiny:model", "wide.gguf", **params))
    wait_for(lambda: control.state("tiny:model") == "ready", "ready")
    assert node.chat("tiny:model", max_tokens=4).json()["choices"][0]["message"]["content"] == "abcd"
    records = node.get("/v0/logs?limit=2000").json()["records"]
    lines = "\n".join(str(record.get("line")) for record in records if record.get("model") == "tiny:model")
    found = dict(re.findall(r"(n_seq_max|n_ctx|n_ctx_seq|flash_attn|n_threads)\s*= (\w+)", lines))
    found |= dict(re.findall(r"(K|V) \((\w+)\):", lines))
    return found


def test_chosen_values_reach_xllamacpp(make_node: MakeNode, control: ControlPlane, spec: Spec) -> None:
    said = start(make_node, control, spec, "xllamacpp", **CHOSEN)
    assert (said["n_seq_max"], said["n_ctx_seq"], said["n_threads"]) == ("3", "768", "1")
    assert (said["flash_attn"], said["K"], said["V"]) == ("enabled", "q8_0", "q8_0")
    assert control.reported("tiny:model")["slots"] == 3


def test_node_decides_what_nobody_chose(make_node: MakeNode, control: ControlPlane, spec: Spec) -> None:
    said = start(make_node, control, spec, "xllamacpp")
    assert (said["n_seq_max"], said["n_ctx_seq"]) == ("2", "512")
    assert int(said["n_threads"]) >= 1
    assert (said["flash_attn"], said["K"], said["V"]) == ("auto", "f16", "f16")


@pytest.mark.slow
@pytest.mark.usefixtures("llama_cpp_python")
def test_chosen_values_reach_llama_cpp_python(make_node: MakeNode, control: ControlPlane, spec: Spec) -> None:
    said = start(make_node, control, spec, "llama-cpp-python", **CHOSEN)
    assert said["n_ctx_seq"] == "768"
    assert (said["flash_attn"], said["K"], said["V"]) == ("enabled", "q8_0", "q8_0")
    assert control.reported("tiny:model")["slots"] == 1  # it computes one at a time, whatever it is told


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"context": 0}, "params.context: Input should be greater than or equal to 1; given 0"),
        ({"slots": "many"}, "params.slots: Input should be a valid integer"),
        ({"threads": -1}, "params.threads: "),
        ({"gpu_layers": -1}, "params.gpu_layers: "),
        ({"flash_attention": True}, "params.flash_attention: Input should be 'auto', 'on' or 'off'; given True"),
        ({"kv_cache_type": "q3_k"}, "params.kv_cache_type: Input should be 'f32', 'f16'"),
        ({"gpu_uuids": ["GPU-1,GPU-2"]}, "params.gpu_uuids.0: "),
        ({"kv_cache_type": "q8_0", "flash_attention": "off"}, "kv_cache_type: q8_0 needs flash attention"),
        ({"kv_cache_type": "q4_0"}, "params.kv_cache_type: q4_0 works with heads of a multiple of 32 elements"),
    ],
)
def test_wrong_value_is_named_and_costs_no_other_model(
    node: NodeProcess, control: ControlPlane, spec: Spec, params: dict[str, Any], text: str
) -> None:
    control.assign(spec("tiny:wrong", "cycle.gguf", **params), spec("tiny:model", "wide.gguf"))
    wait_for(lambda: control.state("tiny:wrong") == "failed", "failed")
    assert text in control.reported("tiny:wrong")["error"]
    wait_for(lambda: control.state("tiny:model") == "ready", "the other model ready")
