"""The router with everything on: key check, limits, queue, breaker, metrics and history.

Run: ``python -m benchmarks.router PORT NODE_URL,NODE_URL FOLDER [--content]``; with content the history has all words, too.
``BENCH_NODE_KEY``: the inference key of real nodes.
"""

import hashlib
import os
import sys
from pathlib import Path

import uvloop

from benchmarks.mock_node import MODEL
from control_api.kit.database import Database
from control_api.migrations import runner
from control_api.router import memory
from control_api.router.history import History
from control_api.router.serve import serve
from control_api.router.settings import RouterSettings
from control_api.router.table import ApiKeyEntry, ModelEntry, RouteNode, RouteTable, RouteTarget
from control_api.settings import Settings

KEY = "mk_bench"
SLOTS = 4096
# The limits are counted, and never reached.
UNLIMITED = 1_000_000_000


def table_of(urls: list[str], node_key: str = "none") -> RouteTable:
    """Return a table with one model on all nodes, and one key."""
    nodes = {
        f"node-{n}": RouteNode(f"node-{n}", f"node-{n}", url, node_key, "online", "open", False) for n, url in enumerate(urls)
    }
    key = ApiKeyEntry("bench", "bench", frozenset({"inference", "read"}), None, None, UNLIMITED, UNLIMITED)
    return RouteTable(
        revision=1,
        nodes=nodes,
        models={MODEL: tuple(RouteTarget(node_id, True, SLOTS, "ready", 0, 0) for node_id in nodes)},
        known_models={MODEL: ModelEntry(MODEL, 0)},
        keys={hashlib.sha256(KEY.encode()).hexdigest(): key},
        signing_keys={},
        parents={},
    )


class FixedSource:
    """A ``RouteTableSource`` that never changes."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    async def load(self, known_revision: int | None) -> RouteTable | None:
        return None if known_revision == self._table.revision else self._table


async def run(port: int, nodes: list[str], folder: Path, *, content: bool) -> None:
    store = Settings(state_dir=folder, database_url=None)
    await runner.upgrade(store)
    database = Database.open(store.control_url, store.telemetry_url)
    settings = RouterSettings(port=port, queue_size=10_000, history_content=content)
    memory.settle()
    try:
        async with History.open(database.telemetry) as history:
            await serve(settings, FixedSource(table_of(nodes, os.environ.get("BENCH_NODE_KEY", "none"))), sinks=[history])
    finally:
        await database.close()


def main() -> None:
    port, nodes, folder = sys.argv[1:4]
    uvloop.run(run(int(port), nodes.split(","), Path(folder), content="--content" in sys.argv))


if __name__ == "__main__":
    main()
