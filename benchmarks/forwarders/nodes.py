"""What the four example proxies share: keys, models, and the choice of a node (least requests in flight)."""

import os
from urllib.parse import urlsplit

import orjson

KEYS = {b"Bearer " + os.environ.get("BENCH_KEY", "sk-bench").encode()}
MODELS = {"bench-model"}


class Node:
    """One upstream; `flying` counts its requests under way, `idle` holds its unused connections."""

    def __init__(self, url):
        self.url, self.host, self.port = url, urlsplit(url).hostname, urlsplit(url).port
        self.flying, self.idle = 0, []


NODES = [Node(u) for u in os.environ["BENCH_NODES"].split(",")]
turn = 0


def pick() -> Node:
    """The node with the fewest requests in flight; equals take turns."""
    global turn
    turn = (turn + 1) % len(NODES)
    best = NODES[turn]
    for node in NODES:
        if node.flying < best.flying:
            best = node
    return best


def check(auth: bytes, body: bytes) -> tuple[int, bool]:
    """(0, streaming?) when the request may pass, else (the status to refuse with, False)."""
    if auth not in KEYS:
        return 401, False
    try:
        asked = orjson.loads(body)
        return (0, asked.get("stream") is True) if asked["model"] in MODELS else (404, False)
    except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
        return 400, False
