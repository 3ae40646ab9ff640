"""``/v1/models``: the models that can be answered now."""

import json
from typing import Any

from control_api.router.auth import Caller
from control_api.router.client import Request
from control_api.router.readiness import why_not_ready
from control_api.router.reply import Reply
from control_api.router.source import TablePoller
from control_api.router.table import RouteTable

MODELS_PATH = "/v1/models"


class Listing:
    """Lists models and shows single ones, to each caller those that it may use."""

    def __init__(self, poller: TablePoller) -> None:
        self._poller = poller

    async def many(self, _request: Request, caller: Caller, reply: Reply) -> None:
        """``GET /v1/models``."""
        table = self._poller.table
        known = sorted({*table.models, *table.cloud})
        allowed = [model for model in known if caller.models is None or model in caller.models]
        data = [_wire(table, model) for model in allowed if _is_ready(table, model)]
        reply.whole(200, json.dumps({"object": "list", "data": data}).encode())

    async def one(self, request: Request, caller: Caller, reply: Reply) -> None:
        """``GET /v1/models/{id}``. A model that is not ready gets the error that a request for it would get."""
        model = request.path.removeprefix(MODELS_PATH + "/")
        caller.require_model(model)
        table = self._poller.table
        if not _is_ready(table, model):
            raise why_not_ready(table, model, None)
        reply.whole(200, json.dumps(_wire(table, model)).encode())


def _is_ready(table: RouteTable, model: str) -> bool:
    if table.provider_of(model):
        return True
    return any(table.serves(target) for target in table.models.get(model, ()))


def _wire(table: RouteTable, model: str) -> dict[str, Any]:
    entry, provider = table.known_models.get(model), table.provider_of(model)
    return {
        "id": model,
        "object": "model",
        "created": entry.created if entry else 0,
        "owned_by": provider.id if provider else "muster",
        "capabilities": list(entry.capabilities) if entry else [],
    }
