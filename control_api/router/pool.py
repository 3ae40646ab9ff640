"""Connections to nodes, kept per node for as long as the route table names it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from control_api.router.answer import Answer
from control_api.router.connection import Connection
from control_api.router.table import RouteNode
from control_api.router.upstream import Timeouts, Unreachable, UpstreamRequest


class NodePool:
    """The connections to one node. Their number is bounded by the leases.

    Raises ``ValueError`` for a base URL that is none.
    """

    def __init__(self, node: RouteNode, timeouts: Timeouts) -> None:
        url = urlsplit(node.base_url)
        self.node = node
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._host = url.hostname or ""
        self._port = url.port or (443 if self._tls else 80)
        self._prefix = url.path.rstrip("/").encode()
        self._head = (
            f"host: {url.netloc}\r\nauthorization: Bearer {node.inference_key}\r\naccept-encoding: identity\r\n".encode()
        )
        self._timeouts = timeouts
        self._idle: list[Connection] = []
        self._closed = False

    def is_for(self, node: RouteNode) -> bool:
        """Tell whether the node is still reached in the same way."""
        return (node.base_url, node.inference_key) == (self.node.base_url, self.node.inference_key)

    def head(self, request: UpstreamRequest) -> bytes:
        """Return the head of a request as it goes over the wire."""
        line = b"POST %b%b HTTP/1.1\r\n" % (self._prefix, request.path.encode())
        return b"%b%b%bcontent-length: %d\r\n\r\n" % (line, self._head, request.headers, len(request.body))

    async def connection(self) -> Connection:
        """Return an idle connection, the one used last first, or a new one. Raises ``Unreachable``."""
        while self._idle:
            if (connection := self._idle.pop()).usable:
                return connection
            connection.abort()
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(self._new, self._host, self._port, ssl=self._tls)
        except OSError as error:  # a TimeoutError is one
            raise Unreachable(str(error)) from error
        return connection

    def close(self) -> None:
        """Close what is idle now, and what is in use once its answer is complete."""
        self._closed = True
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _new(self) -> Connection:
        return Connection(self._keep, self._forget, self._timeouts)

    def _keep(self, connection: Connection) -> None:
        if self._closed:
            connection.abort()
        else:
            self._idle.append(connection)

    def _forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)


class Pools:
    """An ``Upstream``: a pool per node."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._pools: dict[str, NodePool] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, timeouts: Timeouts) -> AsyncIterator["Pools"]:
        """Yield an upstream whose connections are closed at the end."""
        pools = cls(timeouts)
        try:
            yield pools
        finally:
            pools.adopt({})

    def adopt(self, nodes: Mapping[str, RouteNode]) -> None:
        """Close the pools of nodes that are gone or moved."""
        for node_id, pool in list(self._pools.items()):
            node = nodes.get(node_id)
            if node is None or not pool.is_for(node):
                pool.close()
                del self._pools[node_id]

    async def send(self, request: UpstreamRequest) -> Answer:
        """Send a request and wait for the headers of the answer."""
        pool = self._pool(request.node)
        connection = await pool.connection()
        answer = connection.start(pool.head(request), request.body)
        try:
            await answer.head()
        except BaseException:
            answer.close()
            raise
        return answer

    def _pool(self, node: RouteNode) -> NodePool:
        pool = self._pools.get(node.id)
        if pool is not None and pool.is_for(node):
            return pool
        if pool is not None:
            pool.close()
        try:
            pool = self._pools[node.id] = NodePool(node, self._timeouts)
        except ValueError as error:
            raise Unreachable(f"{node.base_url}: {error}") from error
        return pool
