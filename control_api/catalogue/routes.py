"""``/v0/models``: the catalogue. Ids hold ``:`` and may hold ``/``, so the path with the id comes last."""

from fastapi import APIRouter, Request, Response

from control_api.access.principal import Operator, Reader
from control_api.catalogue import repository
from control_api.catalogue.schemas import (
    AvailableOut,
    ChangedModelOut,
    HubOut,
    ModelOut,
    ModelPatch,
    RegisterModelRequest,
)
from control_api.catalogue.service import CatalogueService
from control_api.kit.database import Database
from control_api.kit.http import ReadSession, WriteSession
from control_api.kit.paging import Cursor, Limit
from control_api.kit.wire import Page

router = APIRouter(prefix="/v0", tags=["models"])


def catalogue_of(request: Request) -> CatalogueService:
    """Return the catalogue service of this process."""
    service: CatalogueService = request.state.catalogue
    return service


@router.get("/models/hub", response_model=HubOut)
async def list_hub(request: Request, session: ReadSession, _: Reader) -> Response:
    """List the supported models with status, nodes and the hub's counters. Answers also when the hub is away."""
    return Response(await catalogue_of(request).hub_list(session), media_type="application/json")


@router.get("/models/available")
async def list_available(request: Request, session: ReadSession, _: Reader) -> AvailableOut:
    """List every model that can be had: the catalogue, what is registered, and what nodes report."""
    return await catalogue_of(request).available(session)


@router.get("/models")
async def list_registered(
    request: Request, session: ReadSession, _: Reader, limit: Limit = 100, cursor: Cursor = None
) -> Page[ModelOut]:
    """List registered models by id."""
    models, next_cursor = await repository.page_models(session, cursor, limit)
    return Page(items=await catalogue_of(request).out(session, models), next_cursor=next_cursor)


@router.post("/models/register", status_code=201)
async def register(
    request: Request, response: Response, wanted: RegisterModelRequest, session: ReadSession, _: Operator
) -> ModelOut:
    """Register a model: metadata only, nodes fetch the bytes. 200 if it is registered already."""
    service, database = catalogue_of(request), _database(request)
    understood = service.understand(wanted)
    if known := await service.registered_already(session, understood):
        response.status_code = 200
        return (await service.out(session, [known]))[0]
    # The hub may take seconds: give the connection back meanwhile.
    await session.rollback()
    model, artifacts = await service.resolve(understood)
    async with database.control.write() as writing:
        stored = await service.register(writing, model, artifacts)
        return (await service.out(writing, [stored]))[0]


@router.get("/models/{model_id:path}")
async def get_model(request: Request, model_id: str, session: ReadSession, _: Reader) -> ModelOut:
    """Return one registered model."""
    service = catalogue_of(request)
    return (await service.out(session, [await service.model(session, model_id)]))[0]


@router.patch("/models/{model_id:path}")
async def change_model(
    request: Request, model_id: str, wanted: ModelPatch, session: WriteSession, _: Operator
) -> ChangedModelOut:
    """Change the tags that a node must have to hold a model, or how its engine runs it; where it is, it stays."""
    service = catalogue_of(request)
    model, warnings = await service.change(session, model_id, wanted)
    [changed] = await service.out(session, [model])
    return ChangedModelOut(**changed.model_dump(), warnings=warnings)


@router.delete("/models/{model_id:path}", status_code=204)
async def delete_model(request: Request, model_id: str, session: WriteSession, _: Operator) -> None:
    """Forget a model; nodes delete its files when they next read their manifest."""
    await catalogue_of(request).delete(session, model_id)


def _database(request: Request) -> Database:
    database: Database = request.state.database
    return database
