"""Rules of the catalogue: which models exist, which are registered, and how far each has come in the fleet."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.catalogue import repository
from control_api.catalogue.board import HubBoard
from control_api.catalogue.hub import Hub
from control_api.catalogue.lifecycle import Sighting, lifecycle_of, status_of
from control_api.catalogue.memory import with_cache_type
from control_api.catalogue.models import Artifact, Model
from control_api.catalogue.options import EngineOptions
from control_api.catalogue.popularity import PopularityCache
from control_api.catalogue.registration import Wanted, read_request, resolve
from control_api.catalogue.schemas import (
    ArtifactOut,
    AvailableModelOut,
    AvailableOut,
    MemoryNeed,
    ModelOut,
    ModelPatch,
    RegisterModelRequest,
)
from control_api.catalogue.sources import parts_of
from control_api.catalogue.supported import SupportedModels
from control_api.errors import BadInput, Conflict, NotFound
from control_api.kit import revision
from control_api.kit.bus import publish


async def _nothing(*_: Any) -> None:
    """Do nothing: nobody listens."""


async def _no_warnings(*_: Any) -> list[str]:
    """Warn of nothing: nobody listens."""
    return []


@dataclass(frozen=True)
class CatalogueHooks:
    """Callables of higher domains, each in the transaction of the change.

    ``model_configured`` returns warnings for whoever changes it. ``model_deleting``: its rows still exist.
    """

    model_registered: Callable[[AsyncSession, Model], Awaitable[None]] = _nothing
    model_changed: Callable[[AsyncSession, Model], Awaitable[None]] = _nothing
    model_configured: Callable[[AsyncSession, Model], Awaitable[list[str]]] = _no_warnings
    model_deleting: Callable[[AsyncSession, Model], Awaitable[None]] = _nothing


class CatalogueService:
    """Registers models and tells where they are. The bytes never pass through here."""

    def __init__(self, supported: SupportedModels, hub: Hub, popularity: PopularityCache, hooks: CatalogueHooks) -> None:
        self._supported = supported
        self._board = HubBoard(supported)
        self._hub = hub
        self._popularity = popularity
        self._hooks = hooks

    async def hub_list(self, session: AsyncSession) -> bytes:
        """Return the supported models with where each is, and what the hub is known to say of them, as the JSON of ``HubOut``.

        Asks nobody. A registered model tells the memory that it was registered with.
        """
        return await self._board.render(session, self._popularity.look())

    async def available(self, session: AsyncSession) -> AvailableOut:
        """Return every model that can be had, of the catalogue or registered, and the nodes that hold it.

        Works without the hub. What nodes name beside what they were given counts for nothing.
        """
        seen = await repository.sightings(session)
        models = {m.id: _available(m, "catalogue") for m in self._supported.all}
        for model in await repository.list_models(session):
            models.setdefault(model.id, _available(model, "registered"))
        listed = [AvailableModelOut(**m, node_ids=_holders(seen.get(m["id"], []))) for m in models.values()]
        return AvailableOut(models=listed, hub_reachable=self._popularity.look().reachable)

    async def out(self, session: AsyncSession, models: Collection[Model]) -> list[ModelOut]:
        """Return registered models as callers see them."""
        ids = [model.id for model in models]
        files, seen = await repository.artifacts(session, ids), await repository.sightings(session, ids)
        return [
            ModelOut(
                **model.model_dump(),
                artifacts=[ArtifactOut.model_validate(a) for a in files[model.id]],
                status=status_of(seen[model.id]),
                lifecycle_status=lifecycle_of(seen[model.id], registered=True),
                ready_nodes=sum(s.is_ready for s in seen[model.id]),
            )
            for model in models
        ]

    async def model(self, session: AsyncSession, model_id: str) -> Model:
        """Return a registered model. Raises ``NotFound`` that tells whether it only needs to be registered."""
        found = await repository.get_model(session, model_id)
        if found:
            return found
        if self._supported.get(model_id):
            hint = f"It is in the catalogue: register it first, `muster models register {model_id}`."
        else:
            known = await repository.model_ids(session)
            hint = f"Registered models: {', '.join(known)}." if known else "No model is registered yet."
        raise NotFound(f"No registered model {model_id!r}.", code="unknown_model", hint=hint)

    def understand(self, request: RegisterModelRequest) -> Wanted:
        """Return what a registration asks for. Raises ``NotFound`` or ``BadInput``; asks nobody."""
        return read_request(request, self._supported, hub_host=self._hub.host)

    async def registered_already(self, session: AsyncSession, wanted: Wanted) -> Model | None:
        """Return the model if it is registered from the same place. Raises ``Conflict`` if its id stands for another."""
        model = await repository.get_model(session, wanted.model_id) if wanted.model_id else None
        if model is None:
            return None
        files = (await repository.artifacts(session, [model.id]))[model.id]
        path, pinned = wanted.source.path, wanted.source.revision
        same_files = path is None or parts_of(path) == [a.path for a in files]
        # A branch may have moved on since; only a commit says that another version is meant.
        same_commit = pinned is None or len(pinned) != 40 or pinned == model.revision
        if model.repo != wanted.source.repo or not same_files or not same_commit:
            raise _taken(model)
        return model

    async def resolve(self, wanted: Wanted) -> tuple[Model, list[Artifact]]:
        """Ask the hub for a model's commit and files; holds no transaction. Raises as ``registration.resolve`` does."""
        return await resolve(wanted, self._hub)

    async def register(self, session: AsyncSession, model: Model, artifacts: list[Artifact]) -> Model:
        """Store a resolved model and let it be placed. Registering the same again returns what is there."""
        if existing := await repository.get_model(session, model.id):
            files = (await repository.artifacts(session, [model.id]))[model.id]
            if existing.repo != model.repo or [a.path for a in files] != [a.path for a in artifacts]:
                raise _taken(existing)
            return existing
        session.add(model)
        await session.flush()
        session.add_all(artifacts)
        await session.flush()
        await self._hooks.model_registered(session, model)
        await revision.bump(session, revision.ROUTES)
        await revision.bump(session, revision.MODELS)
        publish(session, "models", "model.registered", {"id": model.id})
        return model

    async def change(self, session: AsyncSession, model_id: str, wanted: ModelPatch) -> tuple[Model, list[str]]:
        """Change which nodes may hold a model, and how its engine runs it; where it is, it stays. Return it, with warnings.

        Raises ``NotFound``, and ``BadInput`` for options that do not go with those it has.
        """
        model = await self.model(session, model_id)
        if wanted.needs is not None:
            model.needs = sorted(set(wanted.needs))
        configured = _configure(model, wanted)
        session.add(model)
        await session.flush()
        warnings = await self._hooks.model_configured(session, model) if configured else []
        await self._hooks.model_changed(session, model)
        await revision.bump(session, revision.MODELS)
        publish(session, "models", "model.changed", {"id": model.id, "configured": configured})
        return model, warnings

    async def delete(self, session: AsyncSession, model_id: str) -> None:
        """Forget a model; the nodes that were to hold it are told to delete its files. Raises ``NotFound``."""
        model = await self.model(session, model_id)
        await self._hooks.model_deleting(session, model)
        await session.delete(model)
        await revision.bump(session, revision.ROUTES)
        await revision.bump(session, revision.MODELS)
        publish(session, "models", "model.deleted", {"id": model.id})


def _configure(model: Model, wanted: ModelPatch) -> bool:
    """Give a model's engine other options; return whether that changes anything."""
    engine = (wanted.engine or "") if "engine" in wanted.model_fields_set else model.engine
    params = wanted.params(model.params)
    if (engine, params) == (model.engine, model.params):
        return False
    try:
        EngineOptions.model_validate({name: params.get(name) for name in EngineOptions.model_fields if name != "engine"})
    except ValidationError as error:
        raise BadInput(error.errors()[0]["msg"].removeprefix("Value error, "), code="bad_engine_options") from error
    model.engine, model.params = engine, params
    if model.memory:
        need = with_cache_type(MemoryNeed(**model.memory), params.get("kv_cache_type", "f16"))
        model.memory, model.required_memory_bytes = need.model_dump(), need.total_bytes
    return True


def _taken(model: Model) -> Conflict:
    return Conflict(
        f"{model.id!r} is registered already, from {model.repo} at {model.revision[:12]}.",
        code="model_exists",
        hint="Delete it first, or give another id.",
    )


def _holders(sightings: Collection[Sighting]) -> list[str]:
    return [sighting.node_id for sighting in sightings if sighting.is_held]


def _available(model: Any, source: str) -> dict[str, Any]:
    fields = {"id": model.id, "name": model.name, "description": model.description}
    return {**fields, "size_bytes": model.size_bytes, "source": source}
