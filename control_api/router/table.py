"""The route table: everything the router knows about the fleet, as one immutable value. Pure data, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class RouteNode:
    """A node as the router reaches it. ``silent``: it was in service and its heartbeats stopped."""

    id: str
    name: str
    base_url: str
    inference_key: str = field(repr=False)
    state: str
    admission: str
    silent: bool


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """A model on a node, as the node reported it.

    ``slots``: requests that it answers at the same time; ``on_demand``: not loaded, but the first request has it loaded.
    """

    node_id: str
    ready: bool
    slots: int
    state: str
    bytes_done: int
    bytes_total: int
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A registered model; ``created`` is in seconds since the epoch, as OpenAI gives it."""

    id: str
    created: int
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ApiKeyEntry:
    """An API key. ``scopes`` holds those that others include, too; ``models`` limits it to these ids, ``None`` means all."""

    id: str
    name: str
    scopes: frozenset[str]
    models: frozenset[str] | None
    expires_at: datetime | None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class TokenParent:
    """What tokens were derived from, as it stands now: a key, a browser's session or a running job. A token has no more.

    Parameters
    ----------
    caller_id: who its tokens call as. ``bucket``: whose requests and tokens per minute they use up.
    scopes, models, expires_at and the limits: as those of a key.
    pins: nodes that its tokens may pin; ``None``: any. ``only_pinned``: and call no others.
    """

    caller_id: str
    bucket: str
    scopes: frozenset[str]
    models: frozenset[str] | None = None
    expires_at: datetime | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    pins: frozenset[str] | None = frozenset()
    only_pinned: bool = False


@dataclass(frozen=True, slots=True)
class RouteTable:
    """One revision of the routes.

    Parameters
    ----------
    revision: grows with every change of the routes; progress of downloads may differ between tables of one revision.
    nodes: by node id.
    models: the nodes that were given a model and report it, by model id.
    known_models: registered models, by id, whether or not a node has them.
    keys: API keys by the SHA-256 of the key, in hex.
    signing_keys: public keys of inference tokens, by ``kid``.
    parents: what inference tokens may have been derived from, by the name that they give it; others are not accepted.
    cloud: who serves a model of a provider, by the model's id with its prefix.
    """

    revision: int
    nodes: Mapping[str, RouteNode]
    models: Mapping[str, tuple[RouteTarget, ...]]
    known_models: Mapping[str, ModelEntry]
    keys: Mapping[str, ApiKeyEntry] = field(repr=False)
    signing_keys: Mapping[str, Ed25519PublicKey]
    parents: Mapping[str, TokenParent]
    cloud: Mapping[str, RouteNode] = field(default_factory=dict)

    def is_known(self, model: str) -> bool:
        """Tell whether a model is registered or on a node."""
        return model in self.known_models or model in self.models

    def provider_of(self, model: str) -> RouteNode | None:
        """Return the provider that serves a model. Its prefix decides: no node ever answers for such an id."""
        return self.cloud.get(model)

    @property
    def providers(self) -> dict[str, RouteNode]:
        """The providers that serve models, by id."""
        return {provider.id: provider for provider in self.cloud.values()}

    def serves(self, target: RouteTarget) -> bool:
        """Tell whether new work may go to a target: model there, node in service. Its heartbeats may have stopped."""
        node = self.nodes.get(target.node_id)
        usable = target.ready or target.on_demand
        return usable and node is not None and node.admission == "open" and (node.silent or node.state == "online")
