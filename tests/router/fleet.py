"""A fleet for tests: a route table that can be changed, fake nodes, and a real router on a real port."""

import asyncio
import contextlib
import dataclasses
import hashlib
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx2
import jwt
import openai
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control_api.router.record import RecordSink, RequestRecord
from control_api.router.settings import RouterSettings
from control_api.router.table import ApiKeyEntry, ModelEntry, RouteNode, RouteTable, RouteTarget, TokenParent
from tests.router.nodes import Behaviour, FakeNode, good
from tests.router.running import running_router

MODEL = "test:1b"
KEY, OPERATOR, READER = "mk_inference", "mk_operator", "mk_reader"
SESSION = "session:ada-1"


async def eventually(condition: Callable[[], Any], within_s: float = 60.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


def key_entry(
    key: str, *scopes: str, models: set[str] | None = None, expires_at: datetime | None = None, **limits: int
) -> dict[str, ApiKeyEntry]:
    allowed = None if models is None else frozenset(models)
    entry = ApiKeyEntry(key, key, frozenset(scopes), allowed, expires_at, **limits)
    return {hashlib.sha256(key.encode()).hexdigest(): entry}


@dataclass
class MemorySource:
    """A ``RouteTableSource`` that holds what the test gives it. ``error``: raised instead."""

    table: RouteTable
    error: Exception | None = None
    loads: int = 0

    async def load(self, known_revision: int | None) -> RouteTable | None:
        self.loads += 1
        if self.error:
            raise self.error
        return None if known_revision == self.table.revision else self.table

    def change(self, **fields: Any) -> None:
        """Replace parts of the table under a new revision."""
        self.table = dataclasses.replace(self.table, revision=self.table.revision + 1, **fields)


@dataclass
class Signer:
    """Signs inference tokens as the control API does."""

    kid: str = "kid-1"
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def token(self, *, kid: str | None = None, **changes: Any) -> str:
        claims = {
            "aud": "muster-inference",
            "sub": "user:ada",
            "parent": SESSION,
            "jti": str(uuid.uuid4()),
            "exp": int(time.time()) + 300,
            **changes,
        }
        given = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(given, self.private, algorithm="EdDSA", headers={"kid": kid or self.kid})


class Fleet:
    """Nodes and the table that knows them."""

    def __init__(self) -> None:
        self.signer = Signer()
        keys = key_entry(KEY, "inference") | key_entry(OPERATOR, "inference", "operate", "read") | key_entry(READER, "read")
        known = {MODEL: ModelEntry(MODEL, 1_700_000_000, ("chat",))}
        ada = TokenParent("token:user:ada", "user:ada", frozenset({"inference", "read", "operate"}), pins=None)
        signing_keys = {"kid-1": self.signer.private.public_key()}
        self.source = MemorySource(RouteTable(1, {}, {}, known, keys, signing_keys, {SESSION: ada}))
        self.nodes: list[FakeNode] = []
        self.records: list[RequestRecord] = []
        self.dropped = 0
        self.sinks: list[RecordSink] = [self]
        self.url = ""

    @property
    def table(self) -> RouteTable:
        return self.source.table

    async def node(
        self,
        behave: Behaviour = good,
        *,
        model: str = MODEL,
        up: bool = True,
        state: str = "online",
        admission: str = "open",
        silent: bool = False,
        ready: bool = True,
        model_state: str = "ready",
        slots: int = 4,
        progress: tuple[int, int] = (0, 0),
        on_demand: bool = False,
    ) -> FakeNode:
        """Add a node. ``up``: false for one that refuses connections."""
        node = FakeNode(f"node-{len(self.nodes) + 1}", behave)
        self.nodes.append(node)
        await node.start()
        if not up:
            await node.stop()
        entry = RouteNode(node.id, f"gpu-{len(self.nodes)}", node.url, node.inference_key, state, admission, silent)
        target = RouteTarget(node.id, ready, slots, model_state, *progress, on_demand=on_demand)
        targets = (*self.table.models.get(model, ()), target)
        self.source.change(nodes={**self.table.nodes, node.id: entry}, models={**self.table.models, model: targets})
        return node

    def change_node(self, node: FakeNode, **fields: Any) -> None:
        """Change what the table says of a node."""
        entry = dataclasses.replace(self.table.nodes[node.id], **fields)
        self.source.change(nodes={**self.table.nodes, node.id: entry})

    def add_key(self, key: str, *scopes: str, **limits: Any) -> None:
        """Make an API key known."""
        self.source.change(keys={**self.table.keys, **key_entry(key, *scopes, **limits)})

    def add_parent(self, name: str, **rights: Any) -> TokenParent:
        """Make something known that tokens are derived from."""
        parent = TokenParent(**{"caller_id": name, "bucket": name, "scopes": frozenset({"inference"}), **rights})
        self.source.change(parents={**self.table.parents, name: parent})
        return parent

    def record(self, record: RequestRecord) -> None:
        """Take a record, as a ``RecordSink``."""
        self.records.append(record)

    @contextlib.asynccontextmanager
    async def router(self, **settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
        """Run the router and yield a client for it; wait until it has the present table."""
        quick = {"poll_interval_s": 0.02, "shutdown_deadline_s": 2, **settings}
        async with running_router(RouterSettings(**quick), self.source, key=KEY, sinks=self.sinks) as http:
            self.url = str(http.base_url).rstrip("/")
            await self.settled()
            yield http

    async def settled(self) -> None:
        """Wait until the router has read the source again."""
        loads = self.source.loads
        await eventually(lambda: self.source.loads > loads + 1)

    def openai(self, key: str = KEY) -> openai.AsyncOpenAI:
        """Return the official client, without its own retries."""
        return openai.AsyncOpenAI(base_url=self.url + "/v1", api_key=key, max_retries=0)

    async def in_flight(self) -> float:
        """Return how many requests the router believes to be at nodes, as Prometheus sees it."""
        return await self.gauge("muster_router_in_flight")

    async def gauge(self, name: str) -> float:
        """Return the sum of a figure over all its labels."""
        async with httpx2.AsyncClient(base_url=self.url, headers=bearer(READER)) as http:
            text = (await http.get("/metrics")).text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    async def reaches(self, name: str, value: float) -> None:
        """Wait until a figure has a value."""
        async with asyncio.timeout(60):
            while await self.gauge(name) != value:
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Stop all nodes."""
        for node in self.nodes:
            await node.stop()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def chat(*, model: str = MODEL, **fields: Any) -> dict[str, Any]:
    """Return the body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}


CHAT = "/v1/chat/completions"
