"""Health: is the process alive, and can it do its work."""

import asyncio

from fastapi import APIRouter, Request

from control_api import __version__
from control_api.access.principal import Reader
from control_api.errors import Unavailable
from control_api.migrations import runner

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Tell that the process runs. The only path that needs no credential."""
    return {"status": "ok", "version": __version__}


@router.get("/readyz")
async def readyz(request: Request, _: Reader) -> dict[str, str]:
    """Tell that the stores answer and are migrated; 503 otherwise."""
    await request.state.database.ping()
    if not await asyncio.to_thread(runner.is_current, request.state.settings):
        raise Unavailable("The store is at another revision than this version needs.", code="store_not_migrated")
    return {"status": "ready", "version": __version__}
