"""Tells nodes that there is something new, so that an order or a cancel does not wait for their next heartbeat."""

import asyncio
from collections.abc import Sequence

import httpx2
import structlog

from control_api.errors import StartupError
from control_api.fleet.models import Node
from control_api.kit.secretbox import SecretBox
from control_api.kit.tls import trusted

log = structlog.get_logger()

_TIMEOUT_S = 3.0
_AT_ONCE = 16


class NodeCaller:
    """Calls ``POST /v0/sync`` of nodes. Nothing depends on it: who cannot be called learns of it by heartbeat."""

    def __init__(self, box: SecretBox) -> None:
        self._box = box
        self._http = httpx2.AsyncClient(timeout=_TIMEOUT_S, verify=trusted())
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def sync(self, nodes: Sequence[Node]) -> None:
        """Let nodes report and read their manifests now. Call it when the change is committed."""
        await asyncio.gather(*(self._sync(node) for node in nodes))

    async def _sync(self, node: Node) -> None:
        async with self._places:
            try:
                headers = {"authorization": f"Bearer {self._box.decrypt(node.inference_key_encrypted)}"}
                # What a node answers is not read: it may be of any length, and may come at any pace.
                async with (
                    asyncio.timeout(_TIMEOUT_S),
                    self._http.stream("POST", f"{node.base_url}/v0/sync", headers=headers) as answer,
                ):
                    answer.raise_for_status()
            except (httpx2.HTTPError, TimeoutError, StartupError) as error:
                log.info("node.not_called", node=node.name, error=str(error) or type(error).__name__)
