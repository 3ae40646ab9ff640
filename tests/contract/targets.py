"""A control API and a router to send everything to, with things that exist in them."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import uvloop

from control_api.fleet.states import ModelState
from control_api.keys import load_keys
from tests.contract.fuzz import Target
from tests.contract.router_document import DOCUMENT
from tests.router.fleet import KEY as ROUTER_KEY
from tests.router.fleet import MODEL, Fleet
from tests.router.test_repository import model_row, node_row, report
from tests.running import KEY, Api, running_api, settings_for

NOBODY = "http://127.0.0.1:9"
# Whatever address somebody makes up, nothing leaves this machine.
NOWHERE = {"http_proxy": NOBODY, "https_proxy": NOBODY, "all_proxy": NOBODY, "no_proxy": "127.0.0.1"}


def meanwhile[Found](serve: AbstractAsyncContextManager[Target], ask: Callable[[Target], Found]) -> Found:
    """Serve a target while something that waits for each answer asks it; return what that found."""

    async def both() -> Found:
        async with serve as target:
            return await asyncio.to_thread(ask, target)

    return uvloop.run(both())


@contextlib.asynccontextmanager
async def control_api(folder: Path, **settings: Any) -> AsyncIterator[Target]:
    """A control API whose hub does not answer, and which runs no jobs."""
    with patch.dict(os.environ, NOWHERE):
        async with running_api(settings_for(folder, hub_endpoint=NOBODY, hub_timeout_s=1, **settings)) as api:
            document = (await api.http.get("/openapi.json")).json()
            yield Target(api.url, KEY, document, await _furnish(api))


async def _furnish(api: Api) -> dict[str, str]:
    """Make one of each thing; return their ids by the names of the parameters that take them."""
    async with api.database.control.write() as session:
        session.add(model_row())
        session.add(node_row(load_keys(api.settings).routing, NOBODY))
        await session.flush()
        session.add(report(ModelState.READY))
    wanted = {
        "host_id": ("/v0/hosts", {"name": "gpu-01", "address": "10.0.0.1"}),
        "job_id": ("/v0/jobs", {"playbook": "site.yml", "hosts": ["gpu-01"]}),
        "key_id": ("/v0/api-keys", {"name": "other"}),
        "credential_id": ("/v0/credentials", {"name": "c", "become_password": "secret"}),
    }
    made = {"node_id": "node-1", "model_id": MODEL, "name": "openai"}
    for parameter, (path, body) in wanted.items():
        answer = await api.http.post(path, json=body)
        assert answer.is_success, answer.text
        made[parameter] = answer.json()["id"]
    return made


@contextlib.asynccontextmanager
async def router() -> AsyncIterator[Target]:
    """A router with a node behind it."""
    fleet = Fleet()
    await fleet.node()
    try:
        async with fleet.router():
            yield Target(fleet.url, ROUTER_KEY, DOCUMENT, {"model": MODEL})
    finally:
        await fleet.close()
