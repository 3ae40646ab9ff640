"""The node's own HTTP paths: what there is, how it does, and its files."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from node_service.auth import bearer, check_ticket
from node_service.errors import ArtifactNotFound
from node_service.logs import LogRing
from node_service.models.record import ModelRecord
from node_service.service import NodeService
from node_service.states import ModelState

__all__ = ["make_router"]

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_ON_DISK = (ModelState.INSTALLED, ModelState.LOADING, ModelState.READY)


def make_router(node: NodeService, logs: LogRing) -> APIRouter:
    """Return the routes of one node."""
    router = APIRouter()
    _add_node_routes(router, node, logs)
    _add_model_routes(router, node)
    return router


def _add_node_routes(router: APIRouter, node: NodeService, logs: LogRing) -> None:
    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process answers; needs no key."""
        return {"status": "ok"}

    @router.get("/v0/status")
    async def status() -> dict[str, Any]:
        """Everything the node knows of itself."""
        return node.status()

    @router.post("/v0/sync", status_code=202)
    async def sync() -> dict[str, str]:
        """Report and read the manifest now."""
        node.reporter.sync()
        return {"status": "accepted"}

    @router.get("/v0/logs")
    async def read_logs(
        limit: Annotated[int, Query(ge=1, le=2000)] = 200,
        level: Literal["debug", "info", "warning", "error", "critical"] = "debug",
    ) -> dict[str, Any]:
        """The last log records, oldest first."""
        return {"records": logs.tail(limit, level)}

    @router.get("/metrics")
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(node.metrics.render(), media_type=_PROMETHEUS)

    @router.get("/v0/artifacts/{sha256}")
    async def artifact(sha256: str, request: Request) -> FileResponse:
        """An artifact's bytes, for the holder of a ticket; Range is honoured."""
        key = node.identities.current.inference_key
        check_ticket(key, bearer(request), sha256=sha256)
        path = await asyncio.to_thread(node.store.find, sha256)
        if path is None:
            raise ArtifactNotFound(f"no artifact {sha256} on this node")
        return FileResponse(path, media_type="application/octet-stream")


def _add_model_routes(router: APIRouter, node: NodeService) -> None:
    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """The models of this node, also those on their way."""
        return {"object": "list", "data": [_openai_model(r) for r in node.models.records]}

    @router.get("/v1/models/{model_id:path}")
    async def read_model(model_id: str) -> JSONResponse:
        """One model of this node."""
        return JSONResponse(_openai_model(node.models.find(model_id)))

    @router.get("/api/tags")
    async def tags() -> dict[str, Any]:
        """The models on this node's disk, in Ollama's shape."""
        on_disk = (r for r in node.models.records if r.state in _ON_DISK)
        return {"models": [_ollama_model(record) for record in on_disk]}


def _openai_model(record: ModelRecord) -> dict[str, Any]:
    report, progress = record.report(), record.progress
    done = record.state in _ON_DISK
    return {
        "id": record.spec.id,
        "object": "model",
        "created": 0,
        "owned_by": "muster",
        "state": report["state"],
        "progress": 1.0 if done else round(progress.fraction, 4),
        "bytes_done": report["bytes_done"],
        "bytes_total": report["bytes_total"],
        "speed_bps": report["speed_bps"],
        "eta_s": None if progress.eta_s is None else round(progress.eta_s, 1),
        "error": report["error"],
    }


def _ollama_model(record: ModelRecord) -> dict[str, Any]:
    family, _, variant = record.spec.id.partition(":")
    return {
        "name": record.spec.id,
        "model": record.spec.id,
        "modified_at": record.installed_at,
        "size": record.spec.size_bytes,
        "digest": record.spec.artifacts[0].sha256,
        "details": {"format": "gguf", "family": family, "parameter_size": variant},
    }
