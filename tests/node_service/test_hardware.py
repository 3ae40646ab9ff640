"""GPUs through a driver library that the tests describe, and machines without one."""

from collections.abc import Callable
from typing import Any

from tests.fake_nvml import FakeNvml
from tests.node_service.control_plane import ControlPlane
from tests.node_service.process import NodeProcess
from tests.processes import wait_for

type MakeNode = Callable[..., NodeProcess]
type Spec = Callable[..., dict[str, Any]]


def test_gpus_are_registered_and_read(make_node: MakeNode, control: ControlPlane, nvml: FakeNvml) -> None:
    nvml.describe(count=2, gpu0_name="NVIDIA L4", gpu0_memory_total=24152899584, gpu0_utilization=37, gpu0_power_mw=61500)

    make_node(environment=nvml.environment, require_gpu=True)

    wait_for(lambda: control.heartbeats, "a heartbeat")
    first, second = control.registrations[0]["hardware"]["gpus"]
    assert (first["index"], first["name"], first["memory_total"]) == (0, "NVIDIA L4", 24152899584)
    assert (first["driver"], first["compute_capability"]) == ("580.95", "8.9")
    assert first["uuid"] != second["uuid"]
    reading = control.last["gpus"][0]
    assert (reading["utilization"], reading["temperature"], reading["power_w"]) == (37, 40, 61.5)
    assert reading["memory_used"] == 2**30


def test_lost_gpu_is_said_and_the_other_stays(make_node: MakeNode, control: ControlPlane, nvml: FakeNvml) -> None:
    node = make_node(environment=nvml.environment, require_gpu=True)
    wait_for(lambda: len(control.last.get("gpus", [])) == 2, "two GPUs")

    nvml.describe(count=2, gpu1_error=15)

    wait_for(lambda: [gpu["index"] for gpu in control.last["gpus"]] == [0], "one GPU left")
    assert "GPU 1: GPU is lost" in node.problem("gpu_unavailable").replace("Lost", "lost")
    nvml.describe(count=2)
    wait_for(lambda: len(control.last["gpus"]) == 2, "two GPUs again")
    assert not node.problem("gpu_unavailable")


def test_driver_that_is_not_loaded_keeps_models_from_loading(
    make_node: MakeNode, control: ControlPlane, nvml: FakeNvml, spec: Spec
) -> None:
    nvml.describe(init=9)
    node = make_node(environment=nvml.environment, require_gpu=True)
    control.assign(spec("tiny:model", "cycle.gguf"))

    error = wait_for(lambda: control.reported("tiny:model").get("error"), "the reason")

    assert "no GPU is visible" in error and "Driver Not Loaded" in error
    assert control.state("tiny:model") == "installed"
    assert "Driver Not Loaded" in node.problem("gpu_unavailable")
    nvml.describe(count=1)
    wait_for(lambda: control.state("tiny:model") == "ready", "ready once the driver is there")


def test_hung_driver_hangs_nothing_else(make_node: MakeNode, control: ControlPlane, nvml: FakeNvml) -> None:
    nvml.describe(count=1, delay_ms=60000)

    node = make_node(environment=nvml.environment)

    wait_for(lambda: len(control.heartbeats) > 3, "heartbeats")
    assert control.last["gpus"] == []
    assert control.registrations[0]["hardware"]["gpu_errors"]
    node.terminate()
    assert node.wait(10) == 0


def test_machine_without_nvml_reports_the_rest(node: NodeProcess, control: ControlPlane) -> None:
    wait_for(lambda: control.heartbeats, "a heartbeat")

    hardware = control.registrations[0]["hardware"]

    assert hardware["gpus"] == []
    assert "NVML" in hardware["gpu_errors"][0] and "Not Found" in hardware["gpu_errors"][0]
    assert hardware["memory_total"] > 0 and hardware["cpu"]["model"]
    assert node.status()["errors"] == []


def test_engine_without_gpu_needs_leave_for_the_cpu(
    make_node: MakeNode, control: ControlPlane, nvml: FakeNvml, spec: Spec
) -> None:
    make_node(environment=nvml.environment, require_gpu=True, allow_cpu=False)
    control.assign(spec("tiny:model", "cycle.gguf"))

    wait_for(lambda: control.state("tiny:model") == "failed", "failed")

    assert "allow_cpu is false" in control.reported("tiny:model")["error"]
