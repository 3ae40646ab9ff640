"""The node's way of bringing weights here, without the rest of the node: in this process, or in one that may be killed."""

import asyncio
import contextlib
import hashlib
import json
import multiprocessing
import random
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from node_service.control import ControlClient, tls_context
from node_service.errors import NodeError
from node_service.identity import IdentityStore
from node_service.redirects import RedirectingClient
from node_service.state_dir import StateDir
from node_service.states import ModelState
from node_service.weights.collector import Collector
from node_service.weights.fetch import Fetcher, FetchLimits
from node_service.weights.installer import Installer
from node_service.weights.journey import Journey
from node_service.weights.progress import Progress
from node_service.weights.sources import SourceResolver
from node_service.weights.store import Store
from node_service.wire import ModelSpec
from tests.hub import Hub
from tests.node_service.control_plane import ControlPlane, artifact, model

__all__ = ["REPO", "Place", "Weights", "in_a_process"]

REPO = "acme/weights-GGUF"


@dataclass(frozen=True)
class Weights:
    """A file of random bytes in a hub's repository, and the model that it is."""

    path: Path
    spec: dict[str, Any]

    @classmethod
    def make(cls, root: Path, size: int, *, seed: int = 0, name: str = "weights.gguf") -> "Weights":
        """Write a file of `size` bytes under a hub's root."""
        path = root / REPO / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(seed).randbytes(size))
        return cls(path, model("rand:om", artifact(name, path.read_bytes())))

    @classmethod
    def offered(cls, root: Path, control: ControlPlane, size: int, **named: Any) -> "Weights":
        """Write a file as `make` does, and let the hub with this root be its only source."""
        made = cls.make(root, size, **named)
        control.offer_hub(made.spec, REPO)
        return made

    @property
    def sha256(self) -> str:
        """The digest of the file."""
        return str(self.spec["artifacts"][0]["sha256"])


@dataclass(frozen=True)
class Place:
    """A store on disk and the two servers that a node knows."""

    directory: Path
    api_url: str
    hub_url: str
    node_id: str
    token: str = "token-1"
    stall_s: float = 0.3

    @classmethod
    def of(cls, directory: Path, control: ControlPlane, hub: Hub, **changed: Any) -> "Place":
        """Return a place for a node that the control API knows."""
        return cls(directory, control.url, hub.url, control.node_id, **changed)

    @property
    def store(self) -> Store:
        """The store, as it is on disk now."""
        return Store(self.directory / "store")

    def part_size(self, weights: Weights) -> int:
        """Return how many bytes are on their way."""
        return self.store.part_size(weights.sha256)

    def has(self, weights: Weights) -> bool:
        """Whether the file is installed, and right."""
        found = self.store.find(weights.sha256)
        return found is not None and hashlib.sha256(found.read_bytes()).hexdigest() == weights.sha256

    async def provide(self, weights: Weights) -> list[str]:
        """Bring the weights here once, as the node would; return the phases that were gone through."""
        state, store = StateDir(self.directory / "state"), self.store
        state.create()
        store.create()
        identities = IdentityStore(state)
        identities.update(node_id=self.node_id, token=self.token)
        tls = tls_context(None)
        control = ControlClient(self.api_url, identities, tls)
        resolver = SourceResolver(api_url=self.api_url, identities=identities, hub_endpoint=self.hub_url, hub_token_file=None)
        phases: list[str] = []

        def phase(reached: ModelState) -> None:
            if phases[-1:] != [reached.value]:
                phases.append(reached.value)

        async with contextlib.aclosing(RedirectingClient(tls)) as http:
            fetcher = Fetcher(http, FetchLimits(connect_s=2.0, stall_s=self.stall_s))
            collector = Collector(store=store, control=control, resolver=resolver, fetcher=fetcher)
            installer = Installer(store=store, collector=collector, reserve_bytes=0)
            try:
                await installer.provide(Journey(ModelSpec.model_validate(weights.spec), Progress(), phase))
            finally:
                await control.aclose()
        return phases


def in_a_process(place: Place, weights: Weights) -> BaseProcess:
    """Begin to bring the weights here in a process that may be killed; it is forked from one that has all imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run, args=(place, weights), daemon=True)
    process.start()
    return process


def _run(place: Place, weights: Weights) -> None:
    """Provide once, and write down how it ended."""
    outcome: dict[str, Any] = {"error": None}
    try:
        asyncio.run(place.provide(weights))
    except NodeError as error:
        outcome["error"] = {"code": error.code, "message": str(error)}
    # Whole or not at all: the process may be killed here as anywhere.
    (place.directory / "outcome.new").write_text(json.dumps(outcome))
    (place.directory / "outcome.new").replace(place.directory / "outcome.json")
