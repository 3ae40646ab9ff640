"""What Panel and Bokeh would serve beside our pages, asked for over real connections: by anybody, and by who is logged in."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator

import httpx2
import pytest
from bokeh.util.token import generate_jwt_token, get_session_id
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.dashboards import fake_api, fake_fleet
from tests.dashboards.servers import Running
from tests.wire import LONGEST_S, talk

pytestmark = pytest.mark.anyio

FORM = {"username": "alice", "password": fake_api.PASSWORD}
# A module that nobody has a reason to import: whether it was is seen in this process, which runs the dashboard.
CANARY = "this"


@pytest.fixture
async def browser(dashboard: Running) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=dashboard.url, timeout=30) as client:
        yield client


ODD_TARGETS = [
    f"/components/{CANARY}/x/__css__/y",
    f"//components/{CANARY}/x/__css__/y",
    f"/./components/{CANARY}/x/__css__/y",
    f"/static/../components/{CANARY}/x/__css__/y",
    f"/static/%2e%2e/components/{CANARY}/x/__css__/y",
    f"/%63omponents/{CANARY}/x/__css__/y",
    f"/components%2f{CANARY}/x/__css__/y",
    f"/COMPONENTS/{CANARY}/x/__css__/y",
    f"/overview/../components/{CANARY}/x/__css__/y",
    f"/overview/components/{CANARY}/x/__css__/y",
    f"http://localhost/components/{CANARY}/x/__css__/y",
    "/components/",
    "/components/unittest.__main__/x/y/z",
    "/components/dashboards.components.view/View/_stylesheets/x",
    "/session_info",
    "/liveness",
    "/rest/overview",
    "/autoload.js",
    "/overview/autoload.js?bokeh-autoload-element=x",
    "/overview/metadata",
    "/overview/static/x",
    "/overview/ws",
    "/overview/",
    "/admin",
    "/panel-preview/components/x",
    "/docs",
    "/openapi.json",
    "/static/",
    "/static//js/bokeh.min.js",
    "/static/js/%00",
    "/static/js/..%2f..%2f..%2f__init__.py",
    "/static/js/%2e%2e/%2e%2e/__init__.py",
    "/static/%252e%252e/x",
    "/static/extensions/panel/../../../__init__.py",
    "/static/js\\..\\x",
]


@pytest.mark.parametrize("is_logged_in", [False, True], ids=["anybody", "somebody"])
async def test_what_is_not_ours_does_not_exist(browser: httpx2.AsyncClient, dashboard: Running, is_logged_in: bool) -> None:
    sys.modules.pop(CANARY, None)
    if is_logged_in:
        await browser.post("/login", data=FORM)
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        for target in ODD_TARGETS:
            head = f"{method} {target} HTTP/1.1\r\nhost: localhost\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n"
            heard = await talk(dashboard.url, [head.encode()])
            assert heard.statuses in ([404], [400]), f"{method} {target}: {heard.back[:200]!r}"
    assert CANARY not in sys.modules


OTHER_SOCKETS = ["/components/x/ws", "/overview", "/overview/../nodes/ws", "//overview/ws", "/nowhere/ws", "/healthz"]


@pytest.mark.parametrize("path", OTHER_SOCKETS)
async def test_no_other_path_has_a_socket(browser: httpx2.AsyncClient, dashboard: Running, path: str) -> None:
    await browser.post("/login", data=FORM)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    with pytest.raises(InvalidStatus) as refused:
        async with connect(dashboard.url.replace("http", "ws") + path, additional_headers={"cookie": cookies}):
            pass
    assert refused.value.response.status_code == 403


async def test_everything_that_pages_load_is_there(browser: httpx2.AsyncClient) -> None:
    await browser.post("/login", data=FORM)
    loaded: set[str] = set()
    for path in ("/overview", "/playground"):
        page = await browser.get(path)
        assert page.status_code == 200
        loaded |= set(re.findall(r'(?:src|href)="((?:/|static/)[^"]+)"', page.text))
    assert len(loaded) > 5
    for target in sorted(loaded):
        answer = await browser.get(httpx2.URL("/").join(target))
        assert answer.status_code in (200, 303), target
    for path in ("/favicon.ico", "/healthz"):
        assert (await browser.get(path)).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_pages_are_only_read(browser: httpx2.AsyncClient, method: str) -> None:
    for path in ("/overview", "/static/js/bokeh.min.js", "/healthz"):
        answer = await browser.request(method, path)
        assert (answer.status_code, answer.headers["allow"].startswith("GET")) == (405, True)


async def open_page(browser: httpx2.AsyncClient, path: str, **headers: str) -> str:
    """Return the token that a page gives for its socket."""
    page = await browser.get(path, headers=headers)
    assert page.status_code == 200
    found = re.search(r'"token":"([^"]+)"', page.text)
    assert found
    return found[1]


async def test_nobody_chooses_the_session_that_another_one_gets(browser: httpx2.AsyncClient) -> None:
    """A link with an id in it, followed by an administrator, would let whoever knows the id see and press what they do."""
    await browser.post("/login", data=FORM)
    by_address = await open_page(browser, "/overview?x=1&%62okeh-session-id=known&bokeh-session-id=known")
    by_header = await open_page(browser, "/overview", **{"Bokeh-Session-Id": "known"})
    assert "known" not in {get_session_id(by_address), get_session_id(by_header)}


async def test_a_socket_needs_a_token_that_this_process_gave(
    browser: httpx2.AsyncClient, dashboard: Running, fleet: fake_fleet.Fleet
) -> None:
    await browser.post("/login", data=FORM)
    (session_id,) = fleet.sessions
    token = await open_page(browser, "/overview")
    forged = generate_jwt_token(get_session_id(token), signed=False)
    headers = {"cookie": f"muster_session={session_id}"}
    url = dashboard.url.replace("http", "ws") + "/overview/ws"
    with pytest.raises(InvalidStatus):
        await connect(url, subprotocols=[Subprotocol("bokeh"), Subprotocol(forged)], additional_headers=headers)
    async with connect(url, subprotocols=[Subprotocol("bokeh"), Subprotocol(token)], additional_headers=headers) as socket:
        assert json.loads(await socket.recv())["msgtype"] == "ACK"


@pytest.mark.parametrize("where", ["in this browser", "in the API"])
async def test_a_socket_ends_with_its_session_whatever_the_browser_does(
    browser: httpx2.AsyncClient, dashboard: Running, fleet: fake_fleet.Fleet, where: str
) -> None:
    await browser.post("/login", data=FORM)
    (session_id,) = fleet.sessions
    token = await open_page(browser, "/overview")
    headers = {"cookie": f"muster_session={session_id}"}
    url = dashboard.url.replace("http", "ws") + "/overview/ws"
    async with connect(url, subprotocols=[Subprotocol("bokeh"), Subprotocol(token)], additional_headers=headers) as socket:
        assert json.loads(await socket.recv())["msgtype"] == "ACK"
        if where == "in the API":
            fleet.sessions.clear()
        else:
            await browser.post("/logout")
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(LONGEST_S):
                while True:
                    await socket.recv()
    assert closed.value.rcvd
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "The session has ended.")


@pytest.mark.parametrize("cookie", ["a:b=c", "expires=1", "a[b]=c; =; ;", "\x80=\xff", "x" * 5000])
async def test_cookies_of_others_break_nothing(browser: httpx2.AsyncClient, cookie: str) -> None:
    answer = await browser.get("/overview", headers={"cookie": cookie.encode("latin-1")})  # type: ignore[dict-item]
    assert answer.status_code == 302
