"""Every route of every process with every kind of credential: exactly who is let in, who is not, and who is not known."""

import hashlib
import re
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from control_api.app import create_app
from control_api.distribution.peers import peer_ticket
from control_api.kit.clock import utcnow
from control_api.router.serve import router_app
from control_api.router.settings import RouterSettings
from dashboards.app import create_app as create_dashboard
from dashboards.settings import DashboardSettings
from node_service.app import create_app as create_node
from node_service.logs import LogRing
from node_service.settings import Settings as NodeSettings
from tests.access_matrix import table
from tests.access_matrix.credentials import NOBODY, of_each_kind
from tests.access_matrix.routes import named, of_panel, of_router, of_starlette
from tests.dashboards import fake_api
from tests.dashboards.servers import Running
from tests.fleet.reports import registration
from tests.node_service.process import node_settings
from tests.router.fleet import KEY, OPERATOR, READER, Fleet, key_entry
from tests.running import Api, settings_for

pytestmark = pytest.mark.anyio

SHA256 = "0" * 64


def same(where: str, there: Iterable[str], listed: Iterable[str]) -> None:
    """Fail unless the table has all routes and no other."""
    exist, known = set(there), set(listed)
    new, gone = exist - known, known - exist
    assert not new, f"{sorted(new)} are in no table: decide the least that is needed and add them to {where} in table.py"
    assert not gone, f"{sorted(gone)} do not exist any more: remove them from {where} in table.py"


def header(credential: str) -> dict[str, str]:
    """Return what to send; an empty credential is none."""
    return {"authorization": f"Bearer {credential}" if credential else ""}


def test_every_route_of_the_api_is_in_the_table(tmp_path: Path) -> None:
    same("API", of_starlette(create_app(settings_for(tmp_path)).routes), table.API)


async def test_the_api_lets_in_whom_the_table_says(api: Api) -> None:
    credentials = await of_each_kind(api)
    (node,) = [node["id"] for node in (await api.http.get("/v0/nodes")).json()["items"]]
    wrong = []
    for route, (least, status) in table.API.items():
        if route.startswith("WS "):
            continue
        method, path = named(route)
        if least in table.OWN_CREDENTIALS:
            path = path.replace("/nodes/0198c0de-0000-7000-8000-000000000000/", f"/nodes/{node}/")
        body = None if method == "GET" else registration(base_url="http://10.0.0.9:8090") if least == "ticket" else {}
        for kind, credential in credentials.items():
            answer = await api.http.request(method, path, headers=header(credential), json=body)
            if answer.status_code != (expected := _expected(least, status, kind)):
                wrong.append(f"{route} with {kind}: {answer.status_code}, not {expected}")
    assert not wrong, "\n".join(wrong)


def _expected(least: str, status: int, kind: str) -> int:
    if least == "anybody" or kind in table.WHO[least]:
        return status
    return 403 if kind in table.PRINCIPALS and least not in table.OWN_CREDENTIALS else 401


async def test_the_live_connection_lets_in_whom_the_table_says(api: Api) -> None:
    least, _ = table.API["WS /v0/events"]
    url = api.url.replace("http", "ws") + "/v0/events"
    for kind, credential in (await of_each_kind(api)).items():
        try:
            async with connect(url, additional_headers=header(credential)):
                status = 101
        except InvalidStatus as refused:
            status = refused.response.status_code
        assert status == _expected(least, 101, kind), kind


async def test_the_router_lets_in_whom_the_table_says() -> None:
    fleet = Fleet()
    past = utcnow() - timedelta(seconds=1)
    fleet.add_key("mk_admin", "admin", "operate", "read", "inference")
    fleet.source.change(keys={**fleet.table.keys, **key_entry("mk_old", "admin", "inference", expires_at=past)})
    credentials = {
        "none": "",
        "wrong": "mk_wrong",
        "no token": "a.b.c",
        "expired": "mk_old",
        "inference": KEY,
        "read": READER,
        "operate": OPERATOR,
        "admin": "mk_admin",
        "inference token": fleet.signer.token(),
        "token that has expired": fleet.signer.token(exp=int(time.time()) - 60),
        "token of a revoked parent": fleet.signer.token(parent="session:gone"),
        "token of a user": fleet.signer.token(aud="muster-api"),
        "token of a job": fleet.signer.token(aud="muster-job"),
        "token of another's key": fleet.signer.token(kid="kid-2"),
        "node": "mn_node",
        "ticket": "mt_ticket",
    }
    async with router_app(RouterSettings(), fleet.source) as app:
        same("ROUTER", of_router(app), table.ROUTER)
    wrong = []
    async with fleet.router() as http:
        for route, (least, status) in table.ROUTER.items():
            method, path = named(route)
            for kind, credential in credentials.items():
                answer = await http.request(method, path, headers=header(credential), json=None if method == "GET" else {})
                known = kind in table.ROUTER_WHO["known"]
                let_in = least == "anybody" or kind in table.ROUTER_WHO[least]
                expected = status if let_in else 403 if known else 401
                if answer.status_code != expected:
                    wrong.append(f"{route} with {kind}: {answer.status_code}, not {expected}")
    assert not wrong, "\n".join(wrong)


async def test_the_node_lets_in_whom_the_table_says(tmp_path: Path) -> None:
    settings = NodeSettings(**node_settings(tmp_path, name="n", api_url="http://127.0.0.1:1"))
    app = create_node(settings, LogRing())
    same("NODE", of_starlette(app.routes), table.NODE)
    key = app.state.node.identities.current.inference_key
    soon = int(time.time()) + 60
    credentials = {
        "none": "",
        "wrong": "wrong",
        "a key of the API": "mk_" + "k" * 40,
        "a token of a node": "mn_" + "n" * 40,
        "key": key,
        "artifact ticket": peer_ticket(key, SHA256, asker="n", expires_at_s=soon),
        "a ticket for another file": peer_ticket(key, hashlib.sha256(b"x").hexdigest(), asker="n", expires_at_s=soon),
        "a ticket that has expired": peer_ticket(key, SHA256, asker="n", expires_at_s=soon - 120),
        "a ticket of another node": peer_ticket("other" * 9, SHA256, asker="n", expires_at_s=soon),
    }
    wrong = []
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://node") as http:
        for route, (least, status) in table.NODE.items():
            method, path = named(route)
            path = re.sub(r"(?<=/artifacts/).*", SHA256, path)
            for kind, credential in credentials.items():
                answer = await http.request(method, path, headers=header(credential), json=None if method == "GET" else {})
                expected = status if least in ("anybody", kind) else 401
                if answer.status_code != expected:
                    wrong.append(f"{route} with {kind}: {answer.status_code}, not {expected}")
    assert not wrong, "\n".join(wrong)


def test_every_route_of_the_dashboard_is_in_the_table() -> None:
    app = create_dashboard(DashboardSettings())
    same("DASHBOARD", of_starlette(app.routes), table.DASHBOARD)
    (panel,) = app.state._panel_asgi_apps
    same("PANEL", of_panel(panel), table.PANEL)


async def test_the_dashboard_lets_in_whom_the_table_says(dashboard: Running) -> None:
    asked = {route: (*route.split(" "), *statuses) for route, statuses in table.DASHBOARD.items()}
    asked |= {pattern: ("GET", *asked_for) for pattern, asked_for in table.PANEL.items()}
    wrong = []
    async with (
        httpx2.AsyncClient(base_url=dashboard.url, timeout=30) as anybody,
        httpx2.AsyncClient(base_url=dashboard.url, timeout=30) as somebody,
    ):
        await somebody.post("/login", data={"username": "alice", "password": fake_api.PASSWORD})
        cookie = {"cookie": f"muster_session={somebody.cookies['muster_session']}"}
        cookies = {"nobody": ({}, 2), "a wrong cookie": ({"cookie": "muster_session=wrong"}, 2), "somebody": (cookie, 3)}
        for name, (method, path, *statuses) in sorted(asked.items(), key=lambda entry: entry[0] == "POST /logout"):
            for kind, (headers, place) in cookies.items():
                answer = await anybody.request(method, path, headers=headers, follow_redirects=False)
                if answer.status_code != statuses[place - 2]:
                    wrong.append(f"{name} with {kind}: {answer.status_code}, not {statuses[place - 2]}")
    assert not wrong, "\n".join(wrong)


def test_the_kinds_of_nobody_are_in_no_row() -> None:
    assert all(not who & set(NOBODY) for who in table.WHO.values())
