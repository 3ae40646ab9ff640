"""Who may call, checked from memory: API keys, inference tokens, pins."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_api.kit.tasks import owned_task
from control_api.router.auth import Authenticator
from control_api.router.source import TablePoller
from tests.router.fleet import CHAT, KEY, MODEL, OPERATOR, READER, SESSION, Fleet, Signer, bearer, chat, eventually
from tests.router.nodes import says

pytestmark = pytest.mark.anyio
PATHS = ["/v1/models", "/v1/models/x", CHAT, "/v1/completions", "/v1/embeddings", "/readyz", "/metrics", "/", "/v1/unknown"]


async def status(fleet: Fleet, credential: str, **headers: str) -> int:
    async with fleet.router() as http:
        return (await http.post(CHAT, json=chat(), headers=bearer(credential) | headers)).status_code


async def test_no_path_but_healthz_is_open(fleet: Fleet) -> None:
    async with fleet.router() as http:
        del http.headers["authorization"]
        answers = [await http.request(method, path) for path in PATHS for method in ("GET", "POST", "OPTIONS")]
        health = await http.get("/healthz")

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.json()["error"]["code"] for answer in answers} == {"invalid_api_key"}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    assert (health.status_code, health.json()) == (200, {"status": "ok", "ready": True})


async def test_what_is_no_key_is_refused(fleet: Fleet) -> None:
    await fleet.node()
    values = ["", "Bearer", "Basic bWs6", KEY, "Bearer mk_\xff", "Bearer a.b.c", "Bearer ..", f"Bearer {KEY}x"]
    async with fleet.router() as http:
        headers = [{b"authorization": value.encode("latin-1")} for value in values]
        answers = [await http.post(CHAT, json=chat(), headers=given) for given in headers]

    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in answers} == {(401, "invalid_api_key")}
    assert fleet.nodes[0].requests == []


async def test_an_unknown_key_waits_for_one_refresh(fleet: Fleet) -> None:
    """A key that was made a moment ago works at its first use; one that stays unknown is refused after one more look."""
    await fleet.node()
    async with fleet.router(poll_interval_s=0.3) as http:
        fleet.add_key("mk_new", "inference")
        new = await http.post(CHAT, json=chat(), headers=bearer("mk_new"))
        loads = fleet.source.loads
        unknown = await http.post(CHAT, json=chat(), headers=bearer("mk_unknown"))
        looks = fleet.source.loads - loads

    assert new.status_code == 200
    assert unknown.status_code == 401
    assert 1 <= looks <= 2


async def test_a_caller_is_remembered_by_a_usual_header_only(fleet: Fleet) -> None:
    """With spaces one key makes any number of headers, of up to 64 KiB each."""
    poller = TablePoller(fleet.source, interval_s=0.01, adopt=lambda table: None)
    authenticator = Authenticator(poller)
    usual, long = f"Bearer {KEY}".encode(), b"Bearer" + b" " * 1000 + KEY.encode()
    async with owned_task(poller.run(), name="poller"):
        await eventually(lambda: poller.loaded)
        callers = [(await authenticator.caller(header)).id for header in (usual, long)]
        remembered = [authenticator.known(header) is not None for header in (usual, long)]

    assert callers[0] == callers[1]
    assert remembered == [True, False]


async def test_a_deleted_key_is_refused(fleet: Fleet) -> None:
    await fleet.node()
    async with fleet.router() as http:
        before = await http.post(CHAT, json=chat())
        fleet.source.change(keys={})
        await fleet.settled()
        after = await http.post(CHAT, json=chat())

    assert (before.status_code, after.status_code) == (200, 401)


async def test_an_expired_key_is_refused(fleet: Fleet) -> None:
    await fleet.node()
    fleet.add_key("mk_old", "inference", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    fleet.add_key("mk_fresh", "inference", expires_at=datetime.now(UTC) + timedelta(hours=1))

    assert await status(fleet, "mk_old") == 401
    assert await status(fleet, "mk_fresh") == 200


async def test_scopes_open_paths(fleet: Fleet) -> None:
    await fleet.node()
    async with fleet.router() as http:
        reader_chats = await http.post(CHAT, json=chat(), headers=bearer(READER))
        reader_measures = await http.get("/metrics", headers=bearer(READER))
        caller_measures = await http.get("/metrics")
        ready = [(await http.get("/readyz", headers=bearer(key))).status_code for key in (KEY, READER)]

    assert (reader_chats.status_code, reader_chats.json()["error"]["code"]) == (403, "permission_denied")
    assert (caller_measures.status_code, caller_measures.json()["error"]["code"]) == (403, "permission_denied")
    assert reader_measures.status_code == 200
    assert "muster_router_in_flight" in reader_measures.text
    assert ready == [200, 200]


async def test_a_key_is_limited_to_its_models(fleet: Fleet) -> None:
    await fleet.node()
    await fleet.node(model="other:1b")
    fleet.add_key("mk_limited", "inference", models={"other:1b"})
    async with fleet.router() as http:
        http.headers.update(bearer("mk_limited"))
        allowed = await http.post(CHAT, json=chat(model="other:1b"))
        refused = await http.post(CHAT, json=chat())
        unknown = await http.post(CHAT, json=chat(model="unknown:1b"))
        shown = await http.get(f"/v1/models/{MODEL}")
        listed = await http.get("/v1/models")

    assert allowed.status_code == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    assert unknown.status_code == 403, "what exists is not told"
    assert shown.status_code == 403
    assert [model["id"] for model in listed.json()["data"]] == ["other:1b"]


async def test_the_last_of_two_models_counts_as_it_does_at_the_node(fleet: Fleet) -> None:
    await fleet.node()
    fleet.add_key("mk_limited", "inference", models={"other:1b"})
    async with fleet.router() as http:
        raw = b'{"model": "other:1b", "messages": [], "model": "test:1b"}'
        answer = await http.post(CHAT, content=raw, headers=bearer("mk_limited"))

    assert answer.status_code == 403


async def test_an_inference_token_is_accepted_for_its_models(fleet: Fleet) -> None:
    await fleet.node()
    tokens = [fleet.signer.token(models=models) for models in (None, [MODEL], ["other:1b"], [])]
    async with fleet.router() as http:
        statuses = [(await http.post(CHAT, json=chat(), headers=bearer(token))).status_code for token in tokens]

    assert statuses == [200, 200, 403, 403]


async def test_a_token_has_no_more_than_what_it_was_derived_from(fleet: Fleet) -> None:
    """What it says of itself narrows its rights; nothing that it says widens them."""
    await fleet.node()
    await fleet.node(model="other:1b")
    fleet.add_parent("api_key:k", models=frozenset({MODEL}))
    fleet.add_parent("api_key:none", scopes=frozenset({"read"}))
    token = fleet.signer.token
    wide, narrow, scopeless = (
        token(parent="api_key:k"),
        token(parent="api_key:k", models=["other:1b"]),
        token(parent="api_key:none"),
    )
    async with fleet.router() as http:
        asked = [(wide, MODEL), (wide, "other:1b"), (narrow, MODEL), (narrow, "other:1b"), (scopeless, MODEL)]
        answers = [await http.post(CHAT, json=chat(model=model), headers=bearer(given)) for given, model in asked]
        listed = (await http.get("/v1/models", headers=bearer(wide))).json()["data"]

    assert [answer.status_code for answer in answers] == [200, 403, 403, 403, 403]
    assert [model["id"] for model in listed] == [MODEL]


async def test_a_token_ends_with_what_it_was_derived_from(fleet: Fleet) -> None:
    await fleet.node()
    fleet.add_parent("api_key:k")
    token = bearer(fleet.signer.token(parent="api_key:k"))
    async with fleet.router() as http:
        before = await http.post(CHAT, json=chat(), headers=token)
        fleet.source.change(parents={})
        await fleet.settled()
        after = await http.post(CHAT, json=chat(), headers=token)

    assert (before.status_code, after.status_code) == (200, 401)


async def test_a_token_of_a_job_reaches_the_nodes_that_it_pins_and_no_others(fleet: Fleet) -> None:
    own, other = await fleet.node(), await fleet.node()
    fleet.add_parent("job:j/1", pins=frozenset({own.id}), only_pinned=True)
    token = bearer(fleet.signer.token(parent="job:j/1", pin=[own.id, other.id]))
    async with fleet.router() as http:
        pins: list[dict[str, str]] = [{"x-muster-pin-node": own.id}, {"x-muster-pin-node": other.id}, {}]
        statuses = [(await http.post(CHAT, json=chat(), headers=token | pin)).status_code for pin in pins]

    assert statuses == [200, 403, 403]


REFUSED: dict[str, dict[str, Any]] = {
    "user token": {"aud": "muster-api"},
    "job token": {"aud": "muster-job"},
    "several audiences": {"aud": ["muster-inference", "muster-api"]},
    "no audience": {"aud": None},
    "expired": {"exp": int(time.time()) - 60},
    "too long": {"exp": int(time.time()) + 3600},
    "no expiry": {"exp": None},
    "no subject": {"sub": None},
    "no id": {"jti": None},
    "derived from nothing": {"parent": None},
    "derived from what is gone": {"parent": "session:ada-2"},
    "derived from what has expired": {"parent": "api_key:old"},
    "malformed parent": {"parent": [SESSION]},
    "malformed pin": {"pin": "node-1"},
    "malformed models": {"models": "test:1b"},
    "other key": {"kid": "kid-2"},
}


async def test_other_tokens_are_refused(fleet: Fleet) -> None:
    await fleet.node()
    fleet.add_parent("api_key:old", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    async with fleet.router() as http:
        tokens = {name: fleet.signer.token(**changes) for name, changes in REFUSED.items()}
        statuses = {name: (await http.get("/v1/models", headers=bearer(token))).status_code for name, token in tokens.items()}

    assert statuses == dict.fromkeys(REFUSED, 401)


async def test_a_token_signed_by_somebody_else_is_refused(fleet: Fleet) -> None:
    await fleet.node()

    assert await status(fleet, Signer().token()) == 401


async def test_a_token_gives_no_right_to_read_figures(fleet: Fleet) -> None:
    async with fleet.router() as http:
        answer = await http.get("/metrics", headers=bearer(fleet.signer.token()))

    assert answer.status_code == 403


async def test_an_operator_pins_a_node_in_any_state(fleet: Fleet) -> None:
    await fleet.node()
    states = [("online", "open"), ("registering", "open"), ("draining", "drained"), ("drained", "drained"), ("offline", "open")]
    pinned = [await fleet.node(state=state, admission=wish, ready=False, model_state="loading") for state, wish in states]
    async with fleet.router() as http:
        pins = [bearer(OPERATOR) | {"x-muster-pin-node": node.id} for node in pinned]
        answers = [await http.post(CHAT, json=chat(stream=stream), headers=pin) for pin in pins for stream in (False, True)]

    assert {answer.status_code for answer in answers} == {200}
    assert [len(node.requests) for node in pinned] == [2] * len(pinned)
    # A drained node lets in only what was meant for it.
    assert [node.requests[0].headers["x-muster-pin-node"] for node in pinned] == [node.id for node in pinned]


async def test_who_may_pin(fleet: Fleet) -> None:
    one, other = await fleet.node(), await fleet.node()
    token = fleet.signer.token
    fleet.add_parent("api_key:reads")
    callers = [KEY, token(), token(pin=[other.id]), token(pin=[one.id]), token(pin=[one.id], parent="api_key:reads")]
    async with fleet.router() as http:
        pins = [bearer(caller) | {"x-muster-pin-node": one.id} for caller in callers]
        statuses = [(await http.post(CHAT, json=chat(), headers=pin)).status_code for pin in pins]

    assert statuses == [403, 403, 403, 200, 403]
    assert [len(node.requests) for node in (one, other)] == [1, 0]


async def test_a_pinned_request_is_not_tried_elsewhere(fleet: Fleet) -> None:
    failing = [await fleet.node(says(code)) for code in (500, 401, 503)]
    other = await fleet.node()
    async with fleet.router() as http:
        pins = [bearer(OPERATOR) | {"x-muster-pin-node": node.id} for node in failing]
        statuses = [(await http.post(CHAT, json=chat(), headers=pin)).status_code for pin in pins]

    assert statuses == [502, 502, 502]
    assert [len(node.requests) for node in (*failing, other)] == [1, 1, 1, 0]


async def test_a_pin_tells_when_the_node_is_busy_or_unknown(fleet: Fleet) -> None:
    busy = await fleet.node(says(503, "node_draining"))
    async with fleet.router() as http:
        http.headers.update(bearer(OPERATOR))
        draining = await http.post(CHAT, json=chat(), headers={"x-muster-pin-node": busy.id})
        unknown = await http.post(CHAT, json=chat(), headers={"x-muster-pin-node": "nobody"})

    assert (draining.status_code, draining.json()["error"]["code"]) == (503, "no_ready_node")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (503, "no_ready_node")
