"""Pages of other origins may call if their origin is configured."""

import pytest

from tests.router.fleet import CHAT, Fleet, chat

pytestmark = pytest.mark.anyio

PAGE = "https://chat.example"
ASK = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,x-stainless-os",
}


@pytest.mark.parametrize("origins", [(PAGE,), ("*",)])
async def test_a_page_may_ask_and_call(fleet: Fleet, origins: tuple[str, ...]) -> None:
    await fleet.node()
    async with fleet.router(cors_origins=origins) as http:
        asked = await http.options(CHAT, headers={**ASK, "authorization": ""})
        called = await http.post(CHAT, json=chat(), headers={"origin": PAGE})
        streamed = await http.post(CHAT, json=chat(stream=True), headers={"origin": PAGE})
        refused = await http.post(CHAT, json=chat(), headers={"origin": PAGE, "authorization": "Bearer no"})

    assert asked.status_code == 204
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert asked.headers["access-control-allow-headers"] == "authorization,x-stainless-os", "what the official client sends"
    for answer in (asked, called, streamed, refused):
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["vary"] == "origin"
    assert (called.status_code, refused.status_code) == (200, 401)


@pytest.mark.parametrize("origins", [(), ("https://other.example",)])
async def test_other_pages_may_not(fleet: Fleet, origins: tuple[str, ...]) -> None:
    await fleet.node()
    async with fleet.router(cors_origins=origins) as http:
        asked = await http.options(CHAT, headers={**ASK, "authorization": ""})
        called = await http.post(CHAT, json=chat(), headers={"origin": PAGE})

    assert asked.status_code == 401
    assert "access-control-allow-origin" not in called.headers
