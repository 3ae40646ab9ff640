"""``/v0/providers``."""

from fastapi import APIRouter, Request, Response

from control_api.access.principal import Admin, Reader
from control_api.kit.http import ReadSession, WriteSession
from control_api.kit.wire import Page
from control_api.providers import repository
from control_api.providers.schemas import ProviderName, ProviderOut, ProviderPut
from control_api.providers.service import ProviderService, shown

router = APIRouter(prefix="/v0", tags=["providers"])


def _providers(request: Request) -> ProviderService:
    providers: ProviderService = request.state.providers
    return providers


@router.get("/providers")
async def list_providers(_: Reader, session: ReadSession) -> Page[ProviderOut]:
    """List the cloud providers that have a key. The keys themselves are never shown."""
    return Page(items=[shown(provider) for provider in await repository.list_providers(session)])


@router.put("/providers/{name}")
async def put_provider(request: Request, name: ProviderName, body: ProviderPut, _: Admin) -> ProviderOut:
    """Give a provider a key; routers pass its models on within a second. Unless models are named, it is asked for them."""
    # Before the transaction, which must not wait for somebody else's answer.
    models = await _providers(request).models_of(name, body)
    async with request.state.database.control.write() as session:
        return await _providers(request).put(session, name, body, models)


@router.delete("/providers/{name}", status_code=204)
async def remove_provider(request: Request, name: ProviderName, _: Admin, session: WriteSession) -> Response:
    """Forget a provider's key; its models are gone from the routers within a second."""
    await _providers(request).remove(session, name)
    return Response(status_code=204)
