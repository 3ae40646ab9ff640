"""Who gets in: the login page, the cookie, pages and WebSockets, over real HTTP."""

import dataclasses
import re
from collections.abc import AsyncIterator

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from dashboards.app import create_app
from dashboards.settings import DashboardSettings
from tests.dashboards import fake_api, fake_fleet
from tests.dashboards.servers import Running, serving
from tests.wire import HUGE_HEAD, MIB, talk

pytestmark = pytest.mark.anyio

FORM = {"username": "alice", "password": fake_api.PASSWORD}


@pytest.fixture
async def browser(dashboard: Running) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=dashboard.url, timeout=30) as client:
        yield client


async def log_in(browser: httpx2.AsyncClient) -> httpx2.Response:
    return await browser.post("/login", data=FORM)


@pytest.mark.parametrize("path", ["/overview", "/nodes?id=1", "/playground"])
async def test_without_a_session_pages_lead_to_the_login(browser: httpx2.AsyncClient, path: str) -> None:
    answer = await browser.get(path)
    assert answer.status_code == 302
    assert httpx2.URL(answer.headers["location"]).params["next"] == path


async def test_login_opens_a_session_in_a_cookie_that_scripts_cannot_read(browser: httpx2.AsyncClient) -> None:
    answer = await browser.post("/login", data=FORM | {"next": "/nodes?id=7"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/nodes?id=7")
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in ("muster_session=", "HttpOnly", "SameSite=lax", "Max-Age=2592000"))
    assert "Secure" not in cookie
    assert (await browser.get("/overview")).status_code == 200


async def test_the_session_id_is_nowhere_in_a_page(browser: httpx2.AsyncClient, fleet: fake_fleet.Fleet) -> None:
    await log_in(browser)
    page = (await browser.get("/overview")).text
    (session_id,) = fleet.sessions
    assert session_id not in page
    token = re.search(r'"token":"([^"]+)"', page)
    assert token
    from bokeh.util.token import get_token_payload

    assert session_id not in str(get_token_payload(token[1]))


async def test_a_wrong_password_is_said_and_opens_nothing(browser: httpx2.AsyncClient) -> None:
    answer = await browser.post("/login", data=FORM | {"password": "wrong"})
    assert answer.status_code == 401
    assert "The name or the password is wrong." in answer.text
    assert 'value="alice"' in answer.text
    assert "set-cookie" not in answer.headers


async def test_the_api_is_told_whose_browser_it_is(settings: DashboardSettings, fleet: fake_fleet.Fleet) -> None:
    """A browser that has logged in before shows that it has; the address goes with the key of the dashboard."""
    with_key = dataclasses.replace(settings, service_key=fake_api.SERVICE_TOKEN)
    with serving(lambda: create_app(with_key)) as running:
        async with httpx2.AsyncClient(base_url=running.url, timeout=30) as browser:
            first = await log_in(browser)
            await log_in(browser)

    assert re.search("muster_device=device-of-alice; HttpOnly; Max-Age=31536000; Path=/; SameSite=lax", str(first.headers))
    told = [{name: body.get(name) for name in ("x-muster-client", "authorization", "device")} for body in fleet.logins]
    same = {"x-muster-client": "127.0.0.1", "authorization": f"Bearer {fake_api.SERVICE_TOKEN}"}
    assert told == [same | {"device": None}, same | {"device": "device-of-alice"}]


async def test_too_many_attempts_are_said_in_the_language_of_the_page(browser: httpx2.AsyncClient) -> None:
    form = FORM | {"password": fake_api.GUESSED_TOO_OFTEN}
    english, japanese = [await browser.post("/login", data=form, headers={"accept-language": code}) for code in ("en", "ja")]

    assert (english.status_code, japanese.status_code) == (429, 429)
    assert "Try again in 40 s." in english.text
    assert "40 秒後にもう一度お試しください" in japanese.text


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", ""])
async def test_login_never_leads_to_another_site(browser: httpx2.AsyncClient, target: str) -> None:
    answer = await browser.post("/login", data=FORM | {"next": target})
    assert answer.headers["location"] == "/overview"


@pytest.mark.parametrize("path", ["/login", "/logout", "/setup"])
async def test_forms_of_other_sites_are_refused(browser: httpx2.AsyncClient, fleet: fake_fleet.Fleet, path: str) -> None:
    await log_in(browser)
    answer = await browser.post(path, data=FORM, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403
    assert len(fleet.sessions) == 1


async def test_an_origin_with_the_right_host_is_accepted(browser: httpx2.AsyncClient, dashboard: Running) -> None:
    answer = await browser.post("/login", data=FORM, headers={"origin": dashboard.url})
    assert answer.status_code == 303


async def test_logout_ends_the_session_for_pages_and_in_the_api(browser: httpx2.AsyncClient, fleet: fake_fleet.Fleet) -> None:
    await log_in(browser)
    answer = await browser.post("/logout")
    assert answer.headers["location"] == "/login"
    assert not fleet.sessions
    assert (await browser.get("/overview")).status_code == 302


async def test_a_session_that_the_api_does_not_know_is_none(browser: httpx2.AsyncClient) -> None:
    browser.cookies.set("muster_session", "made-up")
    assert (await browser.get("/overview")).status_code == 302


async def test_a_session_outlives_the_dashboard_process(browser: httpx2.AsyncClient, fleet: fake_fleet.Fleet) -> None:
    fleet.sessions.add("session-of-bob-9")
    browser.cookies.set("muster_session", "session-of-bob-9")
    page = await browser.get("/overview")
    assert page.status_code == 200


async def test_the_first_admin_comes_by_the_link_of_the_first_start(
    browser: httpx2.AsyncClient, fleet: fake_fleet.Fleet
) -> None:
    fleet.admin_exists = False
    page = await browser.get("/setup", params={"token": fake_api.SETUP_TOKEN})
    assert f'value="{fake_api.SETUP_TOKEN}"' in page.text
    form = {"token": fake_api.SETUP_TOKEN, "username": "root", "password": "long enough"}
    assert (await browser.post("/setup", data=form)).status_code == 303
    again = await browser.post("/setup", data=form)
    assert again.status_code == 403
    assert "used or has expired" in again.text


async def test_a_websocket_without_the_cookie_is_refused(dashboard: Running) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(dashboard.url.replace("http", "ws") + "/overview/ws"):
            pass
    assert refused.value.response.status_code == 403


async def test_a_websocket_of_another_site_is_refused_even_with_the_cookie(
    browser: httpx2.AsyncClient, dashboard: Running, fleet: fake_fleet.Fleet
) -> None:
    await log_in(browser)
    (session_id,) = fleet.sessions
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            dashboard.url.replace("http", "ws") + "/overview/ws",
            origin="https://evil.example",
            additional_headers={"cookie": f"muster_session={session_id}"},
        ):
            pass
    assert refused.value.response.status_code == 403


async def test_pages_let_nothing_foreign_in_and_nobody_frame_them(browser: httpx2.AsyncClient) -> None:
    await log_in(browser)
    for path in ("/login?x", "/overview"):
        headers = (await browser.get(path)).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


async def test_pages_speak_the_language_of_the_browser_or_the_one_chosen(browser: httpx2.AsyncClient) -> None:
    page = await browser.get("/login", headers={"accept-language": "ja-JP,ja;q=0.9,en;q=0.5"})
    assert '<html lang="ja">' in page.text
    assert "ログイン" in page.text
    answer = await browser.get("/language", params={"lang": "ja", "next": "/login"})
    assert answer.headers["location"] == "/login"
    assert '<html lang="ja">' in (await browser.get("/login", headers={"accept-language": "en"})).text
    await log_in(browser)
    assert '<html lang="ja"' in (await browser.get("/overview")).text


async def test_health_and_login_are_all_that_is_open(browser: httpx2.AsyncClient) -> None:
    assert (await browser.get("/healthz")).text == "ok"
    for path in ("/docs", "/openapi.json", "/session_info", "/autoload.js"):
        assert (await browser.get(path)).status_code in (302, 404)


async def test_a_head_without_end_is_cut_off_early(dashboard: Running) -> None:
    heard = await talk(dashboard.url, HUGE_HEAD)
    assert (heard.statuses, heard.closed) == ([431], True)
    assert heard.sent_bytes < 32 * MIB
