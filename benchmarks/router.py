"""The router with everything on: key check, limits, queue, breaker, metrics and history.

Run: ``python -m benchmarks.router PORT NODE_URL,NODE_URL``.
"""

import hashlib
import sys

import uvloop

from benchmarks.mock_node import MODEL
from control_api.router.serve import serve
from control_api.router.settings import RouterSettings
from control_api.router.table import ApiKeyEntry, ModelEntry, RouteNode, RouteTable, RouteTarget

KEY = "mk_bench"
SLOTS = 4096


def table_of(urls: list[str]) -> RouteTable:
    """Return a table with one model on all nodes, and one key."""
    nodes = {
        f"node-{n}": RouteNode(f"node-{n}", f"node-{n}", url, "none", "online", "open", False) for n, url in enumerate(urls)
    }
    key = ApiKeyEntry("bench", "bench", frozenset({"inference", "read"}), None, None)
    return RouteTable(
        revision=1,
        nodes=nodes,
        models={MODEL: tuple(RouteTarget(node_id, True, SLOTS, "ready", 0, 0) for node_id in nodes)},
        known_models={MODEL: ModelEntry(MODEL, 0)},
        keys={hashlib.sha256(KEY.encode()).hexdigest(): key},
        signing_keys={},
        revoked_jti=frozenset(),
    )


class FixedSource:
    """A ``RouteTableSource`` that never changes."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    async def load(self, known_revision: int | None) -> RouteTable | None:
        return None if known_revision == self._table.revision else self._table


def main() -> None:
    settings = RouterSettings(port=int(sys.argv[1]), queue_size=10_000)
    uvloop.run(serve(settings, FixedSource(table_of(sys.argv[2].split(",")))))


if __name__ == "__main__":
    main()
