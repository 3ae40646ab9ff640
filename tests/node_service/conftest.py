"""Fixtures: a hub, a control API, tiny models and node processes."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_nvml import FakeNvml
from tests.hub import Hub
from tests.node_service.control_plane import ControlPlane, model
from tests.node_service.process import PYTHON, NodeProcess, node_settings
from tests.processes import wait_for
from tests.tiny_gguf import TinyModel, write_tiny_gguf

REPO = "acme/tiny-GGUF"


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub's root with one repository of tiny models."""
    root = tmp_path_factory.mktemp("hub")
    for repo in (REPO, "acme/gated-GGUF"):
        (root / repo).mkdir(parents=True)
    write_tiny_gguf(root / REPO / "cycle.gguf")
    write_tiny_gguf(root / REPO / "slow.gguf", TinyModel(layers=300, embedding=32, context=4096))
    write_tiny_gguf(root / REPO / "wide.gguf", TinyModel(embedding=128))
    write_tiny_gguf(root / REPO / "embed.gguf", TinyModel(mode="random", pooling=True))
    write_tiny_gguf(root / "acme/gated-GGUF" / "cycle.gguf")
    (root / REPO / "broken.gguf").write_bytes(b"GGUF" + b"\x03\0\0\0" + b"\0" * 64)
    return root


@pytest.fixture(scope="session")
def llama_cpp_python() -> None:
    """The optional engine; where nobody compiled it, its tests are skipped."""
    if subprocess.run([PYTHON, "-c", "import llama_cpp"], capture_output=True).returncode != 0:
        pytest.skip("llama-cpp-python is not installed for the node")


@pytest.fixture
def hub(tiny_models: Path) -> Iterator[Hub]:
    """A hub without faults; a test may add some."""
    hub = Hub(tiny_models).start()
    yield hub
    hub.stop()


@pytest.fixture
def control() -> Iterator[ControlPlane]:
    """A control API that knows one ticket and assigns nothing yet."""
    plane = ControlPlane().start()
    yield plane
    plane.stop()


def hub_model(control: ControlPlane, root: Path, model_id: str, file: str, repo: str, **params: Any) -> dict[str, Any]:
    """Return a model of the manifest for a file of the hub, which is offered as its source."""
    path = root / repo / file
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    described = model(model_id, {"name": file, "size": path.stat().st_size, "sha256": digest}, **params)
    control.offer_hub(described, repo)
    return described


@pytest.fixture
def spec(tiny_models: Path, control: ControlPlane) -> Callable[..., dict[str, Any]]:
    """Make models of the manifest from files of the hub."""

    def make(model_id: str, file: str, repo: str = REPO, **params: Any) -> dict[str, Any]:
        return hub_model(control, tiny_models, model_id, file, repo, **params)

    return make


def prepare_node(directory: Path, control: ControlPlane, hub: Hub, **changed: Any) -> NodeProcess:
    """Return a node with directories of its own, to run on the CPU; it is not started."""
    directory.mkdir()
    (directory / "ticket").write_text("ticket-1\n")
    here = {
        "tags": ["site:tokyo"],
        "require_gpu": False,
        "allow_cpu": True,
        "engine_threads": 1,
        "context": 512,
        "slots": 2,
        "hub_endpoint": hub.url,
        "drain_deadline_s": 20,
    }
    return NodeProcess(directory, node_settings(directory, name="gpu-01", api_url=control.url, **here | changed))


@pytest.fixture
def make_node(tmp_path: Path, control: ControlPlane, hub: Hub) -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes; settings and environment may be changed."""
    nodes: list[NodeProcess] = []

    def make(*, environment: dict[str, str] | None = None, umask: int = -1, **changed: Any) -> NodeProcess:
        node = prepare_node(tmp_path / f"node-{len(nodes)}", control, hub, **changed)
        node.environment, node.umask = environment or {}, umask
        nodes.append(node)
        return node.start()

    yield make
    for node in nodes:
        node.kill()


@pytest.fixture
def node(make_node: Callable[..., NodeProcess]) -> NodeProcess:
    """A running node of this test alone."""
    return make_node()


@pytest.fixture(scope="session")
def serving(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with `tiny:model` for chat and `tiny:embed` for embeddings, for tests that only ask."""
    control, hub = ControlPlane().start(), Hub(tiny_models).start()
    node = prepare_node(tmp_path_factory.mktemp("serving") / "node", control, hub).start()
    control.assign(
        hub_model(control, tiny_models, "tiny:model", "cycle.gguf", REPO),
        hub_model(control, tiny_models, "tiny:embed", "embed.gguf", REPO),
    )
    wait_for(lambda: control.last.get("ready_models") == {"loaded": 2, "total": 2}, "both models ready")
    yield node
    node.kill()
    hub.stop()
    control.stop()


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    """The fake driver library, built once."""
    nvml = FakeNvml(tmp_path_factory.mktemp("nvml"))
    nvml.build()
    return nvml


@pytest.fixture
def nvml(nvml_library: FakeNvml) -> FakeNvml:
    """The fake driver library with two GPUs."""
    nvml_library.describe(count=2, gpu0_name="NVIDIA L4", gpu0_memory_total=24152899584)
    return nvml_library
