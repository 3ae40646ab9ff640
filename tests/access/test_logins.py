"""Logging in while others try to: what nobody can use up, and who is held up by whose failures."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from control_api.access.attempts import FORGET_AFTER_S, FREE_ATTEMPTS, LONGEST_WAIT_S, REMEMBERED, Attempts, PasswordDesk
from control_api.access.logins import network_of
from control_api.errors import TooMany
from control_api.kit.secretbox import password_hash
from control_api.settings import DASHBOARD_KEY_FILE, SETUP_LINK_FILE
from tests.access.test_access import PASSWORD, make_admin
from tests.fleet.reports import bearer
from tests.router.test_balance import Clock
from tests.running import Api, running_api, settings_for

pytestmark = pytest.mark.anyio

ALICE = {"username": "alice", "password": PASSWORD}
GUESS = {"username": "alice", "password": "guessed"}


@pytest.fixture
async def many(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without credentials that opens as many connections as it is asked to."""
    async with httpx2.AsyncClient(base_url=api.url, timeout=60, limits=httpx2.Limits(max_connections=None)) as http:
        yield http


async def log_in(http: httpx2.AsyncClient, body: dict[str, Any], **headers: str) -> httpx2.Response:
    """Try to log in; ``x_muster_client`` and the like as headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await http.post("/v0/auth/login", json=body, headers=named)


async def use_up(http: httpx2.AsyncClient, body: dict[str, Any], **headers: str) -> list[int]:
    """Fail as often as one may, and once more."""
    tries = (log_in(http, body, **headers) for _ in range(FREE_ATTEMPTS))
    answers = [*await asyncio.gather(*tries), await log_in(http, body, **headers)]
    return sorted(answer.status_code for answer in answers)


USED_UP = [401] * FREE_ATTEMPTS + [429]


async def test_three_hundred_strangers_keep_nobody_out(api: Api, many: httpx2.AsyncClient) -> None:
    await make_admin(api)
    strangers = [log_in(many, {"username": f"stranger-{number}", "password": "x"}) for number in range(300)]
    others = [many.get("/v0/hosts", headers=bearer(api.key)) for _ in range(20)]
    answers = await asyncio.gather(*strangers[:150], *others, log_in(many, ALICE), *strangers[150:])
    counts = Counter((answer.request.url.path, answer.status_code) for answer in answers)

    assert counts == {("/v0/auth/login", 401): 300, ("/v0/auth/login", 200): 1, ("/v0/hosts", 200): 20}


async def test_who_guesses_waits_and_keeps_out_neither_known_browsers_nor_other_addresses(
    api: Api, many: httpx2.AsyncClient
) -> None:
    """The dashboard says for whom it asks, and it alone is believed."""
    known = (await make_admin(api))["device"]
    dashboard = (api.settings.state_dir / DASHBOARD_KEY_FILE).read_text().strip()
    reader = (await api.http.post("/v0/api-keys", json={"name": "dashboard", "scopes": ["read"]})).json()["key"]
    as_dashboard = {"authorization": f"Bearer {dashboard}"}

    assert await use_up(many, GUESS | {"username": "nobody"}) == USED_UP, "a name that does not exist is answered alike"
    assert await use_up(many, GUESS, **as_dashboard, x_muster_client="203.0.113.6") == USED_UP
    refused = await log_in(many, ALICE, **as_dashboard, x_muster_client="203.0.113.6")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (429, "too_many_attempts")
    assert int(refused.headers["retry-after"]) == error["details"]["retry_after_s"] >= 1

    elsewhere = await log_in(many, ALICE, **as_dashboard, x_muster_client="203.0.113.7")
    here = await log_in(many, ALICE | {"device": known}, **as_dashboard, x_muster_client="203.0.113.6")
    assert (elsewhere.status_code, here.status_code) == (200, 200)
    liars = [
        await log_in(
            many, GUESS | {"username": "carol"}, authorization=f"Bearer {reader}", x_muster_client=f"203.0.113.{number}"
        )
        for number in range(FREE_ATTEMPTS + 1)
    ]
    assert sorted(answer.status_code for answer in liars) == USED_UP, "a key of another is not believed"


async def test_what_one_browser_is_known_for_is_worth_nothing_to_another(api: Api, many: httpx2.AsyncClient) -> None:
    """It is for the name that it logged in by, and has an end of its own."""
    known = (await make_admin(api))["device"]
    foreign = {"username": "bob", "password": "x"}
    assert await use_up(many, foreign) == USED_UP
    for device in (known, known[:-2], "nonsense", (await make_login(api))["access_token"]):
        assert (await log_in(many, foreign | {"device": device})).status_code == 429
    assert await use_up(many, GUESS | {"device": known}) == USED_UP
    assert (await api.http.get("/v0/hosts", headers=bearer(known))).status_code == 401


async def make_login(api: Api) -> dict[str, Any]:
    session: dict[str, Any] = (await api.http.post("/v0/auth/login", json=ALICE)).json()
    return session


@pytest.mark.parametrize(("trusted", "other_address"), [([], 429), (["127.0.0.0/8"], 401)])
async def test_a_proxy_is_believed_only_where_it_is_trusted(
    tmp_path: Path, anyio_backend: str, trusted: list[str], other_address: int
) -> None:
    """Of a chain of addresses the last that is no proxy's counts: what the client wrote before it does not."""
    async with running_api(settings_for(tmp_path, trusted_proxies=trusted)) as api:
        forged = [f"203.0.113.{number}, 198.51.100.1, 127.0.0.9" for number in range(FREE_ATTEMPTS)]
        await asyncio.gather(*(log_in(api.http, GUESS, x_forwarded_for=chain) for chain in forged))
        same = await log_in(api.http, GUESS, x_forwarded_for="203.0.113.99, 198.51.100.1")
        other = await log_in(api.http, GUESS, x_forwarded_for="198.51.100.2")

    assert (same.status_code, other.status_code) == (429, other_address)


async def test_of_two_first_admins_at_once_there_is_one(api: Api) -> None:
    token = (api.settings.state_dir / SETUP_LINK_FILE).read_text().strip().split("token=")[1]
    bodies = [{"token": token, "username": name, "password": PASSWORD} for name in ("alice", "eve")]
    answers = await asyncio.gather(*(api.http.post("/v0/auth/setup", json=body) for body in bodies))

    assert sorted(answer.status_code for answer in answers) == [201, 403]


async def test_a_large_body_is_read_of_known_callers_only(api: Api) -> None:
    async def chunks(size: int) -> AsyncIterator[bytes]:
        for _ in range(size >> 16):
            yield b" " * (1 << 16)

    async def status(size: int, credential: str) -> int:
        headers = {"authorization": f"Bearer {credential}" if credential else "", "content-type": "application/json"}
        return (await api.http.post("/v0/hosts", content=chunks(size), headers=headers)).status_code

    assert [await status(1 << 17, credential) for credential in ("", "mk_nobody", api.key)] == [413, 401, 422]
    assert await status(5 << 20, api.key) == 413


async def test_only_a_few_passwords_are_hashed_at_a_time_and_known_browsers_do_not_wait_for_strangers() -> None:
    desk, release = PasswordDesk(), threading.Event()
    hashed = password_hash(PASSWORD)

    def slow() -> str:
        release.wait(30)
        return "done"

    strangers = [asyncio.create_task(desk.hash(slow)) for _ in range(60)]
    try:
        assert await desk.matches(PASSWORD, hashed, known=True)
        refused = [task for task in strangers if task.done()]
        for stored in (hashed, None):
            with pytest.raises(TooMany):  # whether or not the name exists
                await desk.matches(PASSWORD, stored)
    finally:
        release.set()
    outcomes = await asyncio.gather(*strangers, return_exceptions=True)

    assert len(refused) == 26
    assert Counter(type(outcome) for outcome in outcomes) == {str: 34, TooMany: 26}


def fails(attempts: Attempts, pair: str) -> bool:
    """Make an attempt that fails; tell whether it was let in at all."""
    try:
        attempts.begin(pair)
    except TooMany:
        return False
    attempts.failed(pair)
    return True


def test_who_goes_on_failing_waits_longer_each_time_and_never_for_ever() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    assert [fails(attempts, "p") for _ in range(FREE_ATTEMPTS + 1)] == [True] * FREE_ATTEMPTS + [False]
    pauses = []
    for _ in range(20):
        with pytest.raises(TooMany) as refused:
            attempts.begin("p")
        pauses.append(refused.value.details["retry_after_s"])
        clock.now += pauses[-1]
        assert fails(attempts, "p")
    assert pauses[:4] == [30, 60, 120, 240]
    assert pauses[-1] == LONGEST_WAIT_S
    clock.now += FORGET_AFTER_S + 1
    assert fails(attempts, "p")


def test_attempts_count_while_they_are_under_way_and_not_if_the_password_was_not_looked_at() -> None:
    attempts = Attempts(Clock())
    for _ in range(3 * FREE_ATTEMPTS):
        attempts.begin("p")
        attempts.not_made("p")
    for _ in range(FREE_ATTEMPTS):
        attempts.begin("p")
    assert not fails(attempts, "p")
    attempts.succeeded("p")
    assert fails(attempts, "p")


def test_nobody_washes_their_failures_out_of_memory() -> None:
    attempts = Attempts(Clock())
    assert [fails(attempts, "guesser") for _ in range(FREE_ATTEMPTS)] == [True] * FREE_ATTEMPTS
    for number in range(3 * REMEMBERED):
        fails(attempts, f"made up {number}")
    assert not fails(attempts, "guesser")
    assert len(attempts) <= REMEMBERED


@settings(max_examples=50, deadline=None)
@given(some.ip_addresses() | some.text())
def test_an_address_is_counted_as_its_owner_and_anything_else_as_one(address: Any) -> None:
    counted = network_of(str(address))
    assert counted == "?" or len(counted) <= 49
    if getattr(address, "version", 0) == 6 and not address.ipv4_mapped:
        assert network_of(str(address + 1 if int(address) % 2 == 0 else address - 1)) == counted
