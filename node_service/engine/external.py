"""Engines that run on this host anyway: an OpenAI server that the node asks, and neither starts nor ends."""

import asyncio

import httpx2

from node_service.engine.definitions import ExternalDefinition
from node_service.engine.health import answers
from node_service.engine.protocol import Endpoint, EngineModel
from node_service.errors import EngineStartFailed

__all__ = ["ExternalEngine"]

_LIST_TIMEOUT_S = 10.0
_NAMES_SHOWN = 10


class ExternalEngine:
    """A model of a server that is there. It is ready as soon as the server lists it."""

    def __init__(self, definition: ExternalDefinition, http: httpx2.AsyncClient) -> None:
        self._definition = definition
        self._http = http
        self._endpoint: Endpoint | None = None

    def slots(self, model: EngineModel) -> int:
        """Return how many requests the server is sent at the same time."""
        return self._definition.slots

    async def start(self, model: EngineModel) -> Endpoint:
        """Look whether the server has the model; raises EngineStartFailed."""
        endpoint = Endpoint(
            url=self._definition.base_url,
            api_key=await asyncio.to_thread(self._key),
            model=self._definition.models.get(model.id, model.id),
            device=self._definition.device,
            gpu_layers=0,
        )
        names = await self._names(endpoint)
        if endpoint.model not in names:
            shown = ", ".join(names[:_NAMES_SHOWN]) or "none"
            raise EngineStartFailed(f"{endpoint.url} does not serve {endpoint.model!r}; it has {shown}")
        self._endpoint = endpoint
        return endpoint

    async def health(self) -> bool:
        """Whether the server answers."""
        return self._endpoint is not None and await answers(self._http, self._endpoint, "/v1/models")

    async def exited(self) -> str:
        """Wait for ever: it is not ours to end."""
        await asyncio.get_running_loop().create_future()
        return "never"

    async def stop(self) -> None:
        """Forget the server."""
        self._endpoint = None

    def _key(self) -> str | None:
        path = self._definition.api_key_file
        if path is None:
            return None
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise EngineStartFailed(f"cannot read the key of {self._definition.base_url}: {error}") from error

    async def _names(self, endpoint: Endpoint) -> list[str]:
        url = f"{endpoint.url}/v1/models"
        try:
            answer = await self._http.get(url, headers=endpoint.headers, timeout=_LIST_TIMEOUT_S)
            answer.raise_for_status()
            return [str(entry["id"]) for entry in answer.json()["data"]]
        except httpx2.HTTPStatusError as error:
            raise EngineStartFailed(f"{url} answered {error.response.status_code}") from error
        except httpx2.HTTPError as error:
            raise EngineStartFailed(f"{url} does not answer: {error or type(error).__name__}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise EngineStartFailed(f"{url} gives no list of models: {type(error).__name__}: {error}") from error
