"""The router as a process, for tests that need one: ``python -m tests.router.process <listener fd> <node url>``."""

import socket
import sys

import uvloop

from control_api.router.serve import serve
from control_api.router.settings import RouterSettings
from control_api.router.table import ModelEntry, RouteNode, RouteTable, RouteTarget
from tests.router.fleet import KEY, MODEL, MemorySource, key_entry


def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    node = RouteNode("node-1", "gpu-1", sys.argv[2], "node-key", "online", "open", False)
    models = {MODEL: (RouteTarget("node-1", True, 4, "ready", 0, 0),)}
    known = {MODEL: ModelEntry(MODEL, 0)}
    table = RouteTable(1, {"node-1": node}, models, known, key_entry(KEY, "inference"), {}, {})
    uvloop.run(serve(RouterSettings(shutdown_deadline_s=10), MemorySource(table), listener=listener))


if __name__ == "__main__":
    main()
