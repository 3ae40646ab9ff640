"""The engines this node can run: those that come with it, and those that its own file defines."""

import importlib.util
from pathlib import Path

import httpx2

from node_service.engine.command import CommandEngine
from node_service.engine.definitions import BUILT_IN, CommandDefinition, EngineDefinition, ExternalDefinition
from node_service.engine.external import ExternalEngine
from node_service.engine.library import LibraryEngine
from node_service.engine.orders import make_orders
from node_service.engine.policy import RestartPolicy
from node_service.engine.protocol import Engine, EngineModel
from node_service.errors import EngineUnavailable
from node_service.settings import Settings
from node_service.wire import ModelSpec

__all__ = ["EngineCatalogue"]


class EngineCatalogue:
    """Makes engines by name, with this node's settings as defaults.

    Parameters:
        http: for requests to engines.
    """

    def __init__(self, settings: Settings, http: httpx2.AsyncClient) -> None:
        self._settings = settings
        self._http = http

    def make(self, spec: ModelSpec) -> Engine:
        """Return a new engine for a model.

        Raises:
            EngineUnavailable: the engine is unknown, or its library is not installed here.
        """
        name, definition = self._find(spec)
        if isinstance(definition, CommandDefinition):
            return CommandEngine(definition, spec.id, self._http)
        if isinstance(definition, ExternalDefinition):
            return ExternalEngine(definition, self._http)
        library = BUILT_IN[name]
        if importlib.util.find_spec(library) is None:
            raise EngineUnavailable(f"engine {name}: the library {library} is not installed")
        # llama-cpp-python computes one request at a time, whatever it is told.
        max_slots = 1 if name == "llama-cpp-python" else None
        return LibraryEngine(name.replace("-", "_"), spec.id, self._http, max_slots=max_slots)

    def orders(self, spec: ModelSpec, path: Path | None) -> EngineModel:
        """Return what an engine is to be told about a model whose file is at `path`; raises EngineUnavailable."""
        name, definition = self._find(spec)
        return make_orders(spec, path, name, definition, self._settings)

    def policy(self, spec: ModelSpec) -> RestartPolicy:
        """Return how often a model's engine is started again; raises EngineUnavailable."""
        # A server that is not ours may be away for hours, and comes back without telling.
        return RestartPolicy(gives_up=not self._is_external(spec))

    def needs_weights(self, spec: ModelSpec) -> bool:
        """Whether the model's files have to be on this node; not where a server has its own."""
        return not self._is_external(spec)

    def _is_external(self, spec: ModelSpec) -> bool:
        return isinstance(self._settings.engines.get(spec.engine or self._settings.engine), ExternalDefinition)

    def _find(self, spec: ModelSpec) -> tuple[str, EngineDefinition | None]:
        name = spec.engine or self._settings.engine
        definition = self._settings.engines.get(name)
        if definition is None and name not in BUILT_IN:
            known = ", ".join([*BUILT_IN, *self._settings.engines])
            raise EngineUnavailable(f"unknown engine {name!r}; this node knows {known}")
        return name, definition
