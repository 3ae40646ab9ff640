"""Cloud providers."""

from control_api.client.http import Http, part
from control_api.client.schemas import ProviderName, ProviderOut, ProviderPut


class Providers:
    """``/v0/providers``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> list[ProviderOut]:
        """Return the providers that have a key; the keys are never shown."""
        return [provider async for provider in self._http.items(ProviderOut, "/v0/providers")]

    async def put(self, name: ProviderName, wanted: ProviderPut) -> ProviderOut:
        """Give a provider a key."""
        body = wanted.model_dump(mode="json", exclude_none=True)
        return ProviderOut.model_validate_json((await self._http.send("PUT", f"/v0/providers/{part(name)}", json=body)).content)

    async def remove(self, name: ProviderName) -> None:
        """Forget a provider's key."""
        await self._http.send("DELETE", f"/v0/providers/{part(name)}")
