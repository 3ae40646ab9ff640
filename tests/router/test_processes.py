"""Routers as processes on one store: any number of them, with the control API there, gone and back."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx2
import pytest

from control_api.fleet.states import ModelState
from control_api.keys import load_keys
from control_api.kit import revision
from control_api.kit.database import Database
from control_api.settings import Settings
from tests.ports import free_port
from tests.processes import answers, process
from tests.router.fleet import CHAT, Fleet, bearer, chat
from tests.router.test_repository import given, model_row, node_row, report
from tests.running import KEY, settings_for, until

pytestmark = pytest.mark.anyio

START_S = 120.0


class Site:
    """One state directory, and the processes on it."""

    def __init__(self, folder: Path) -> None:
        self.settings: Settings = settings_for(folder)
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self.ports = {"api": free_port(), "router": free_port(), "other": free_port()}

    def start(self, role: str, name: str) -> Popen[bytes]:
        """Start a process under a name; the name gives its port."""
        environment = {
            **os.environ,
            f"MUSTER_{role.upper()}_PORT": str(self.ports[name]),
            "MUSTER_STATE_DIR": str(self.settings.state_dir),
            "MUSTER_BOOTSTRAP_API_KEY": KEY,
        }
        command = [sys.executable, "-m", "control_api.cli", "serve", role]
        return self._stack.enter_context(process(command, environment, self._folder / f"{name}.log"))

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    async def until_up(self, *names: str) -> None:
        for name in names:

            async def up(name: str = name) -> bool:
                return await asyncio.to_thread(answers, f"{self.url(name)}/healthz")

            await until(up, what=f"{name} to answer", timeout_s=START_S)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
async def site(anyio_backend: Any, tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    yield made
    await asyncio.to_thread(made.close)


async def add_node(site: Site, url: str) -> None:
    """Write a node that is online to the store, as the control API does."""
    database = Database.open(site.settings.control_url, site.settings.telemetry_url)
    async with database.control.write() as session:
        session.add(model_row())
        session.add(node_row(load_keys(site.settings).routing, url))
        await session.flush()
        session.add(report(ModelState.READY))
        session.add(given())
        await revision.bump(session, revision.ROUTES)
    await database.close()


async def test_two_routers_serve_with_and_without_the_control_api(site: Site, fleet: Fleet) -> None:
    node = await fleet.node()
    api = site.start("api", "api")
    await site.until_up("api")
    site.start("router", "router")
    other = site.start("router", "other")
    await add_node(site, node.url)
    await site.until_up("router", "other")

    async with httpx2.AsyncClient(timeout=30) as http:

        async def chats(name: str, key: str = KEY) -> bool:
            return (await http.post(site.url(name) + CHAT, json=chat(), headers=bearer(key))).status_code == 200

        async def make_key() -> dict[str, str]:
            made = await http.post(site.url("api") + "/v0/api-keys", json={"name": "k"}, headers=bearer(KEY))
            key: dict[str, str] = made.json()
            return key

        for name in ("router", "other"):
            await until(lambda name=name: chats(name), what=f"{name} to have the node")
        first = await make_key()
        assert [await chats(name, first["key"]) for name in ("router", "other")] == [True, True], "at its first use"

        api.send_signal(signal.SIGKILL)
        await asyncio.to_thread(api.wait, 10)
        assert [await chats(name, key) for name in ("router", "other") for key in (KEY, first["key"])] == [True] * 4

        site.start("api", "api")
        await site.until_up("api")
        assert all([await chats(name) for name in ("router", "other")])
        second = await make_key()
        await http.delete(f"{site.url('api')}/v0/api-keys/{first['id']}", headers=bearer(KEY))
        for name in ("router", "other"):
            assert await chats(name, second["key"])

            async def refused(name: str = name) -> bool:
                return not await chats(name, first["key"])

            await until(refused, what="the deleted key to be refused")

        other.send_signal(signal.SIGKILL)
        await asyncio.to_thread(other.wait, 10)
        assert await chats("router")
