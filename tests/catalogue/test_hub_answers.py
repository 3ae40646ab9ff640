"""A hub is not believed: whatever it answers is read up to a bound, checked, and either used or refused by name."""

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_api.catalogue.files import HEADERS_AT_ONCE
from control_api.catalogue.hub import ANSWER_LIMIT_BYTES, MAX_FILES
from tests.hub import Hub
from tests.running import Api, running_api, settings_for, until

pytestmark = pytest.mark.anyio

FILE = {"rfilename": "a-Q4_0.gguf", "size": 9, "lfs": {"sha256": "a" * 64}}
GOOD = {"sha": "c" * 40, "siblings": [FILE]}
WANTED = {"source": "lab/many-GGUF", "id": "a:1b"}


def info(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def of_file(**changes: Any) -> bytes:
    return info(siblings=[{"rfilename": "README.md"}, FILE | changes])


# What a hub says, and what of it is named.
BAD_ANSWERS: list[tuple[bytes, str]] = [
    (of_file(size=-5), "siblings.1.size"),
    (of_file(size=10**30), "siblings.1.size"),
    (of_file(size=(1 << 50) + 1), "siblings.1.size"),
    (of_file(size=True), "siblings.1.size"),
    (of_file(size="9"), "siblings.1.size"),
    (of_file(size=9.5), "siblings.1.size"),
    (of_file().replace(b"9,", b"NaN,"), "siblings.1.size"),
    (of_file(lfs={"sha256": "../../../etc/passwd"}), "siblings.1.lfs.sha256"),
    (of_file(lfs={"sha256": "A" * 64}), "siblings.1.lfs.sha256"),
    (of_file(lfs={"sha256": "a" * 64 + "\n"}), "siblings.1.lfs.sha256"),
    (of_file(lfs=[]), "siblings.1.lfs"),
    (of_file(rfilename=7), "siblings.1.rfilename"),
    (of_file(rfilename="x" * 2000), "siblings.1.rfilename"),
    (info(sha="../../../etc"), "sha"),
    (info(sha="c" * 40 + "\n"), "sha"),
    (info(sha=None), "sha"),
    (info(siblings={}), "siblings"),
    (info(siblings=[FILE] * (MAX_FILES + 1)), "siblings"),
    (info(pipeline_tag={"deep": 1}), "pipeline_tag"),
    (b"[" * 100_000, "recursion"),
    (b'{"sha":' + b'{"a":' * 100_000, "recursion"),
    (b"[]", "lab/many-GGUF"),
    (b"", "EOF"),
    (b"<html>", "lab/many-GGUF"),
    (b'"\xff"', "lab/many-GGUF"),
]


async def registered(api: Api) -> list[str]:
    return [model["id"] for model in (await api.http.get("/v0/models")).json()["items"]]


async def test_what_cannot_be_is_refused_by_name_and_never_registered(api: Api, hub: Hub) -> None:
    for body, named in BAD_ANSWERS:
        hub.fail(info=body)
        response = await api.http.post("/v0/models/register", json=WANTED)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (502, "hub_answer"), body[:200]
        assert named in error["message"] and hub.url.removeprefix("http://") in error["message"], error
    assert await registered(api) == []
    assert (await api.http.get("/v0/models/hub")).status_code == 200
    hub.fail(info=info())
    assert (await api.http.post("/v0/models/register", json=WANTED)).status_code == 201


async def test_files_together_may_not_be_larger_than_any_model(api: Api, hub: Hub) -> None:
    parts = [FILE | {"rfilename": f"a-{n:05}-of-00003.gguf", "size": 1 << 49} for n in (1, 2, 3)]
    hub.fail(info=info(siblings=parts))

    response = await api.http.post("/v0/models/register", json=WANTED)

    assert (response.status_code, response.json()["error"]["code"]) == (502, "hub_answer")


async def test_names_that_lead_elsewhere_are_never_taken_and_hide_no_other_file(api: Api, hub: Hub) -> None:
    names = [
        "../../etc/cron.d/a.gguf",
        "/etc/a.gguf",
        "a/../b.gguf",
        "a\nb.gguf",
        "a\u202eb.gguf",
        "-rf.gguf",
        "a\n.gguf",
        "\x1b]0;a.gguf",
    ]
    hub.fail(info=info(siblings=[FILE | {"rfilename": name} for name in names] + [FILE]))

    for name in names:
        answer = await api.http.post("/v0/models/register", json={"source": f"lab/many-GGUF:{name}", "id": "b:1b"})
        assert answer.status_code in (404, 422), name
        assert "\x1b" not in answer.json()["error"]["message"]
    [artifact] = (await api.http.post("/v0/models/register", json=WANTED)).json()["artifacts"]
    assert artifact["name"] == FILE["rfilename"]


async def test_what_callers_write_of_a_hub_is_held_to_the_same(api: Api, hub: Hub) -> None:
    for source in (
        "{hub}/lab/many-GGUF%0A/resolve/main/a.gguf",
        "{hub}/lab/many-GGUF/resolve/%2E%2E/a.gguf",
        "http://[::1/lab/x",
    ):
        answer = await api.http.post("/v0/models/register", json={"source": source.format(hub=hub.url), "id": "b:1b"})
        assert (answer.status_code, answer.json()["error"]["code"]) in ((422, "bad_source"), (422, "hub_not_allowed")), source
    for revision in ("..", "../x", "a/../b", "-x", "a\n"):
        answer = await api.http.post("/v0/models/register", json=WANTED | {"revision": revision})
        assert answer.status_code == 422, revision
    assert not [asked for asked in hub.served if "many" in asked.path]


async def test_no_model_of_ours_takes_the_prefix_of_a_cloud_provider(api: Api, hub: Hub) -> None:
    hub.fail(info=info())
    for model_id in ("openai:gpt-x", "OpenAI:gpt-x", "ANTHROPIC:c", "google:gemma"):
        answer = await api.http.post("/v0/models/register", json=WANTED | {"id": model_id})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_model_id"), model_id
    derived = await api.http.post("/v0/models/register", json={"source": "lab/openai:a-Q4_0.gguf"})
    assert (derived.status_code, derived.json()["error"]["code"]) == (422, "bad_model_id")
    for model_id in ("openai", "openai/gpt:x", "openais:x"):
        assert (await api.http.post("/v0/models/register", json=WANTED | {"id": model_id})).status_code == 201


async def test_an_id_that_a_files_name_gives_is_held_to_the_rule_for_ids(api: Api, hub: Hub) -> None:
    long = f"m-Q4_{'A' * 200}.gguf"
    hub.fail(info=info(siblings=[FILE | {"rfilename": long}]))
    for source in ("lab/many-GGUF", f"lab/many-GGUF:{long}", f"{hub.url}/lab/many-GGUF/resolve/main/{long}"):
        answer = await api.http.post("/v0/models/register", json={"source": source})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "bad_model_id"), source
        assert "128" in error["message"] and "`id`" in error["hint"]
        assert (await api.http.post("/v0/models/register", json={"source": source, "id": "a:1b"})).status_code < 300
    assert await registered(api) == ["a:1b"]


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[Hub]:
    """Another service of the same machine, which no hub may make us ask."""
    running = Hub(tmp_path / "hub").start()
    yield running
    running.stop()


async def test_a_redirect_leads_to_the_hub_itself_or_out_into_the_world_and_takes_no_token_along(
    tmp_path: Path, hub: Hub, neighbour: Hub
) -> None:
    forbidden = [
        f"{neighbour.url}/api/models/lab/many-GGUF",
        f"http://localhost:{neighbour.port}/api/models/lab/many-GGUF",
        f"http://[::ffff:127.0.0.1]:{neighbour.port}/api/models/lab/many-GGUF",
        f"http://[64:ff9b::7f00:1]:{hub.port}/x",
        "http://169.254.169.254/latest",
        "https://10.0.0.1/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://[2002:7f00:1::]/x",
        "https://224.0.0.1/x",
        "https://localhost:99999/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://[",
        "//",
        f"http://{'a' * 70}.example/",
        f"{hub.url}/api/models/lab/many-GGUF",
    ]
    async with running_api(settings_for(tmp_path, hub_endpoint=hub.url, hub_token=hub.token)) as api:
        for target in forbidden:
            hub.fail(info_redirect=target)
            answer = await api.http.post("/v0/models/register", json=WANTED)
            said = answer.status_code, answer.json()["error"]["code"]
            assert said in ((502, "hub_answer"), (503, "hub_unreachable")), target
        assert neighbour.served == []
        assert len([asked for asked in hub.served if asked.path.endswith("many-GGUF")]) >= len(forbidden) + 5

        hub.fail(info_redirect=f"http://localhost:{hub.port}/lab/split-GGUF/resolve/main/split-Q8_0-00001-of-00002.gguf")
        followed = await api.http.post("/v0/models/register", json=WANTED)
    assert (followed.status_code, followed.json()["error"]["code"]) == (502, "hub_answer"), "what it leads to is no metadata"
    asked = [asked for asked in hub.served if asked.path.endswith("00002.gguf")]
    assert [one.authorized for one in asked] == [False]


async def test_a_redirect_to_no_public_address_is_not_even_tried(api: Api, hub: Hub) -> None:
    stand_ins = ["[fec0::1]", "[::10.0.0.1]", "[::ffff:0:10.0.0.1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::10.0.0.1]"]
    for place in [*stand_ins, "1.1.1.1:65536", "1.1.1.1:99999"]:
        hub.fail(info_redirect=f"https://{place}/x")
        answer = await api.http.post("/v0/models/register", json=WANTED)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "hub_answer"), place


@pytest.mark.parametrize("exception", ["127.0.0.1:{port}", "127.0.0.0/8", "https://127.0.0.1"])
async def test_an_exception_from_the_proxy_is_no_way_into_the_site(
    tmp_path: Path, hub: Hub, neighbour: Hub, monkeypatch: pytest.MonkeyPatch, exception: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", exception.format(port=neighbour.port))
    async with running_api(settings_for(tmp_path, hub_endpoint=hub.url)) as api:
        hub.fail(info_redirect=f"https://127.0.0.1:{neighbour.port}/x")
        answer = await api.http.post("/v0/models/register", json=WANTED)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "hub_answer")


async def test_a_proxy_is_not_asked_to_lead_a_redirect_into_the_site(
    tmp_path: Path, hub: Hub, neighbour: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused without a resolver is refused whoever connects."""
    monkeypatch.setenv("HTTP_PROXY", neighbour.url)
    monkeypatch.setenv("HTTPS_PROXY", neighbour.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    inside = ["http://169.254.169.254/x", "http://10.1.2.3/", "http://[fd00::1]/", "http://intranet/", "https://10.1.2.3/"]
    inside += ["http://127.0.0.2:6379/", "https://[::ffff:10.0.0.1]/", "https://localhost/", "http://1.1.1.1/"]
    async with running_api(settings_for(tmp_path, hub_endpoint=hub.url)) as api:
        for target in inside:
            hub.fail(info_redirect=target)
            answer = await api.http.post("/v0/models/register", json=WANTED)
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "hub_answer"), target
    assert neighbour.served == []


async def test_a_password_in_the_hubs_address_is_told_to_nobody(tmp_path: Path, hub: Hub) -> None:
    address = hub.url.replace("http://", "http://site:hidden@")
    async with running_api(settings_for(tmp_path, hub_endpoint=address)) as api:
        for wanted in (WANTED, WANTED | {"source": f"{hub.url}/lab/many-GGUF"}, WANTED | {"source": "https://example.com/a/b"}):
            hub.fail(info=b"[]")
            answer = await api.http.post("/v0/models/register", json=wanted)
            assert answer.json()["error"]["code"] == ("hub_not_allowed" if "example" in wanted["source"] else "hub_answer")
            assert "hidden" not in answer.text


async def test_an_answer_is_read_up_to_a_bound_and_not_unpacked(api: Api, hub: Hub) -> None:
    bomb = gzip.compress(b" " * (64 << 20) + info())
    faults: list[dict[str, Any]] = [
        {"info": info(), "info_endless": 20 * ANSWER_LIMIT_BYTES},
        {"info": bomb, "info_headers": (("Content-Encoding", "gzip"),)},
    ]
    for fault in faults:
        hub.fail(**fault)
        answer = await api.http.post("/v0/models/register", json=WANTED)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "hub_answer")
        (asked,) = [asked for asked in hub.served if asked.path.endswith("many-GGUF")]
        assert asked.sent_bytes < 4 * ANSWER_LIMIT_BYTES
        hub.served.clear()


@pytest.fixture
def header(hub: Hub) -> Callable[..., Path]:
    """Write a file whose header holds figures."""

    def write(**figures: int) -> Path:
        path = hub.root / "lab/many-GGUF/lies.gguf"
        writer = gguf.GGUFWriter(str(path), "llama")
        for key, value in figures.items():
            writer.add_uint32(f"llama.{key.replace('__', '.')}", value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return path

    return write


async def test_figures_of_a_header_that_come_to_more_than_there_is_are_not_believed(
    api: Api, header: Callable[..., Path]
) -> None:
    most = (1 << 31) - 1
    header(block_count=4096, embedding_length=most, attention__head_count=most, context_length=most)
    header(block_count=4096, embedding_length=most, attention__head_count=2, context_length=most)

    answer = await api.http.post(
        "/v0/models/register", json={"source": "lab/many-GGUF:lies.gguf", "context": 1 << 24, "slots": 256}
    )

    assert answer.status_code == 201, answer.text
    assert (answer.json()["memory"]["basis"], answer.json()["required_memory_bytes"] < 1 << 40) == ("size", True)
    assert "figures" in answer.json()["memory"]["note"]


@pytest.fixture
def long_header(hub: Hub) -> str:
    """A file whose header goes on for a megabyte with what nobody needs, before what everybody needs."""
    path = hub.root / "lab/many-GGUF/long-Q4_0.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_string("general.license", "x" * (1 << 20))
    for key, value in {"block_count": 2, "embedding_length": 64, "attention.head_count": 2}.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return "lab/many-GGUF:long-Q4_0.gguf"


async def test_few_headers_are_read_at_a_time_and_the_others_wait(api: Api, hub: Hub, long_header: str) -> None:
    gate = threading.Event()
    hub.fail(gate=gate)

    async def register(number: int) -> httpx2.Response:
        return await api.http.post("/v0/models/register", json={"source": long_header, "id": f"m:{number}"})

    async def all_files_are_known() -> bool:
        return len([asked for asked in hub.served if asked.path.endswith("many-GGUF") and asked.status == 200]) == 8

    asking = asyncio.gather(*(register(number) for number in range(8)))
    await until(all_files_are_known, what="what the hub says of the repository, for each of them")
    gate.set()
    answers = await asking

    assert hub.busiest <= HEADERS_AT_ONCE
    assert [(answer.status_code, answer.json()["memory"]["basis"]) for answer in answers] == [(201, "header")] * 8


async def test_who_waited_in_vain_for_others_headers_is_told_to_try_again(tmp_path: Path, hub: Hub, long_header: str) -> None:
    hub.fail(stall_at=4096)
    async with running_api(settings_for(tmp_path, hub_endpoint=hub.url, hub_timeout_s=2)) as api:
        bodies = [{"source": long_header, "id": f"m:{number}"} for number in range(6)]
        answers = await asyncio.gather(*(api.http.post("/v0/models/register", json=body) for body in bodies))
        stored = await registered(api)

    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 6 - HEADERS_AT_ONCE and len(stored) == HEADERS_AT_ONCE
    assert {answer.json()["error"]["code"] for answer in refused} == {"hub_busy"}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["c" * 40, "a" * 64, "a.gguf"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FILES = st.lists(st.fixed_dictionaries({}, optional={"rfilename": ANYTHING, "size": ANYTHING, "lfs": ANYTHING}), max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=ANYTHING | st.fixed_dictionaries({"sha": ANYTHING}, optional={"siblings": ANYTHING | FILES, "downloads": ANYTHING}))
async def test_whatever_a_hub_says_is_used_or_refused(api: Api, hub: Hub, said: Any) -> None:
    hub.fail(info=json.dumps(said).encode())

    answer = await api.http.post("/v0/models/register", json=WANTED)

    assert answer.status_code in (201, 200, 404, 422, 502), answer.text
    assert answer.status_code != 502 or answer.json()["error"]["code"] == "hub_answer"
