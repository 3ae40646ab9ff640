"""``POST /v0/models/register`` and ``DELETE``, through HTTP, against a real hub."""

import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest

from control_api.kit import revision
from tests.catalogue.models import SMOLLM
from tests.hub import Hub, commit_of
from tests.running import Api, running_api, settings_for
from tests.tiny_gguf import write_tiny_gguf

pytestmark = pytest.mark.anyio


async def routes_revision(api: Api) -> int:
    async with api.database.control.read() as session:
        return await revision.current(session, revision.ROUTES)


async def test_a_model_of_the_catalogue_is_pinned_with_size_and_digest(api: Api, hub: Hub) -> None:
    before = await routes_revision(api)

    response = await api.http.post("/v0/models/register", json={"model": "smollm2:135m"})

    assert response.status_code == 201
    model, content = response.json(), (hub.root / SMOLLM.repo / SMOLLM.recommended_filename).read_bytes()
    assert model["id"] == "smollm2:135m"
    assert model["revision"] == commit_of(SMOLLM.repo)
    assert model["artifacts"] == [
        {
            "name": SMOLLM.recommended_filename,
            "path": SMOLLM.recommended_filename,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    ]
    assert model["size_bytes"] == len(content)
    assert model["params"] == {"context": 2048, "slots": 4, "embedding": False}
    assert (model["status"], model["lifecycle_status"], model["ready_nodes"]) == ("available", "registered", 0)
    assert await routes_revision(api) == before + 1
    assert (await api.http.get("/v0/models/smollm2:135m")).json() == model
    assert (await api.http.get("/v0/models")).json() == {"items": [model], "next_cursor": None}


async def test_a_list_of_a_registration_has_an_end(api: Api) -> None:
    body = {"source": "lab/many-GGUF:many-Q4_0.gguf", "capabilities": ["chat"] * 1000}
    assert (await api.http.post("/v0/models/register", json=body)).status_code == 422


async def test_the_memory_is_computed_from_the_header_and_shown_in_parts(api: Api, hub: Hub) -> None:
    """The tiny model has two layers with two heads of 16 values for keys and 16 for values."""
    model = (await api.http.post("/v0/models/register", json={"model": "smollm2:135m"})).json()

    memory = model["memory"]
    assert memory["weights_bytes"] == model["size_bytes"]
    assert memory["kv_cache_bytes"] == 2 * 2 * (16 + 16) * 2 * 2048 * 4
    assert (memory["context"], memory["slots"], memory["kv_type"], memory["basis"]) == (2048, 4, "f16", "header")
    parts = [memory[f"{part}_bytes"] for part in ("weights", "kv_cache", "compute", "engine")]
    assert model["required_memory_bytes"] == sum(parts)
    listed = (await api.http.get("/v0/models/hub")).json()["models"]
    assert next(m for m in listed if m["id"] == "smollm2:135m")["memory"] == memory


async def test_context_and_slots_are_what_the_caller_wants_within_what_the_model_can(api: Api) -> None:
    wanted = {"model": "smollm2:135m", "context": 4096, "slots": 2, "kv_cache_type": "q8_0"}

    model = (await api.http.post("/v0/models/register", json=wanted)).json()

    assert model["params"] == {"context": 2048, "slots": 2, "embedding": False, "kv_cache_type": "q8_0"}
    # A q8_0 block keeps 32 values in 34 bytes.
    assert model["memory"]["kv_cache_bytes"] == 2 * 2 * (16 + 16) * 2048 * 2 * 34 // 32


@pytest.mark.parametrize("faults", [{}, {"no_range": True}, {"redirect": True}])
async def test_of_a_large_file_only_the_beginning_is_read(api: Api, hub: Hub, faults: dict[str, bool]) -> None:
    large = hub.root / "lab/large-GGUF/large.gguf"
    large.parent.mkdir()
    write_tiny_gguf(large)
    with large.open("r+b") as file:
        file.truncate(128 << 20)
    hub.repositories.files(large.parent)  # has hashed it before anybody waits
    hub.fail(**faults)

    response = await api.http.post("/v0/models/register", json={"source": "lab/large-GGUF"}, timeout=60)

    assert response.json()["memory"]["basis"] == "header"
    sent = sum(s.sent_bytes for s in hub.served if s.method == "GET" and s.path.endswith("large.gguf"))
    assert 0 < sent < 32 << 20


@pytest.mark.parametrize(
    ("faults", "said"),
    [({}, "its version is"), ({"status": 500}, "500"), ({"redirect_to": "http://10.0.0.1/"}, "10.0.0.1")],
)
async def test_without_a_header_the_memory_is_estimated_by_size_and_says_why(
    api: Api, hub: Hub, faults: dict[str, Any], said: str
) -> None:
    hub.fail(**faults)

    model = (await api.http.post("/v0/models/register", json={"source": "lab/many-GGUF:many-Q8_0.gguf"})).json()

    assert model["memory"]["basis"] == "size"
    assert said in model["memory"]["note"]
    assert model["required_memory_bytes"] == 10 + 2 + (512 << 20)


@pytest.mark.parametrize(("source", "path"), [("lab/many-GGUF:q4_0", "many-Q4_0.gguf"), ("lab/split-GGUF:Q8_0", None)])
async def test_a_quantization_chooses_the_file(api: Api, source: str, path: str | None) -> None:
    model = (await api.http.post("/v0/models/register", json={"source": source})).json()

    assert model["artifacts"][0]["path"] == (path or "split-Q8_0-00001-of-00002.gguf")


async def test_an_id_of_the_catalogue_may_end_in_another_quantization(api: Api, hub: Hub) -> None:
    folder = hub.root / SMOLLM.repo
    (folder / "SmolLM2-135M-Instruct.Q8_0.gguf").write_bytes(b"GGUF eight")

    model = (await api.http.post("/v0/models/register", json={"model": "smollm2:135m:q8_0"})).json()
    absent = await api.http.post("/v0/models/register", json={"model": "smollm2:135m:q2_k"})

    assert (model["id"], model["quantization"], model["size_bytes"]) == ("smollm2:135m:q8_0", "Q8_0", 10)
    assert model["artifacts"][0]["path"] == "SmolLM2-135M-Instruct.Q8_0.gguf"
    assert (absent.status_code, absent.json()["error"]["code"]) == (422, "no_such_quantization")
    assert "Q4_1, Q8_0" in absent.json()["error"]["hint"]


async def test_registering_again_is_no_error_and_changes_nothing_even_without_the_hub(api: Api, hub: Hub) -> None:
    first = (await api.http.post("/v0/models/register", json={"model": "smollm2:135m"})).json()
    before = await routes_revision(api)
    hub.stop()

    response = await api.http.post("/v0/models/register", json={"model": "smollm2:135m"})

    assert (response.status_code, response.json()) == (200, first)
    assert await routes_revision(api) == before


@pytest.mark.parametrize(
    ("source", "model_id"),
    [
        ("lab/split-GGUF", "split:q8_0"),
        ("lab/split-GGUF:split-Q8_0-00002-of-00002.gguf", "split:q8_0"),
        ("{hub}/lab/split-GGUF/resolve/main/split-Q8_0-00001-of-00002.gguf", "split:q8_0"),
        ("{hub}/lab/split-GGUF", "split:q8_0"),
    ],
)
async def test_a_split_model_is_all_its_parts_however_it_is_named(api: Api, hub: Hub, source: str, model_id: str) -> None:
    response = await api.http.post("/v0/models/register", json={"source": source.format(hub=hub.url)})

    assert response.status_code == 201
    model = response.json()
    assert model["id"] == model_id
    assert [a["name"] for a in model["artifacts"]] == ["split-Q8_0-00001-of-00002.gguf", "split-Q8_0-00002-of-00002.gguf"]
    assert model["size_bytes"] == 504 + 604
    assert model["quantization"] == "Q8_0"


async def test_an_id_may_hold_slashes_and_colons(api: Api) -> None:
    wanted = {"source": "lab/many-GGUF:many-Q4_0.gguf", "id": "lab/many:4b:q4_0", "capabilities": ["embeddings"]}

    created = await api.http.post("/v0/models/register", json=wanted)

    assert created.status_code == 201
    assert created.json()["params"]["embedding"] is True
    for path in ("lab/many:4b:q4_0", "lab%2Fmany%3A4b%3Aq4_0"):
        assert (await api.http.get(f"/v0/models/{path}")).json()["id"] == "lab/many:4b:q4_0"
    assert (await api.http.delete("/v0/models/lab/many:4b:q4_0")).status_code == 204
    assert (await api.http.get("/v0/models/lab/many:4b:q4_0")).status_code == 404


@pytest.mark.parametrize(
    "id_", ["a/../b", "a/./b", "a//b", "a/", "a/.", "a/..", "..", "a..b", "/a", "a/.b", "a%2fb", "a\\b", "a\n", "a" * 129]
)
async def test_an_id_has_one_path_and_no_other_reading(api: Api, id_: str) -> None:
    """Clients that tidy paths would ask for another model, or delete it."""
    answer = await api.http.post("/v0/models/register", json={"source": "lab/many-GGUF:many-Q4_0.gguf", "id": id_})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
    assert "id" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "code", "named"),
    [
        ({"source": "lab/absent"}, 404, "hub_not_found", ["127.0.0.1", "lab/absent"]),
        ({"source": "lab/none:x.gguf"}, 404, "hub_not_found", ["127.0.0.1", "lab/none", "x.gguf"]),
        ({"source": "lab/broken-GGUF"}, 404, "hub_not_found", ["broken-00002-of-00002.gguf"]),
        ({"source": "lab/many-GGUF:many-Q4_0.gguf", "revision": "v9"}, 404, "hub_not_found", ["v9"]),
        ({"source": "lab/gated-model"}, 422, "hub_access_denied", ["gated", "HF_TOKEN"]),
        ({"source": "lab/many-GGUF"}, 422, "file_needed", ["many-Q4_0.gguf"]),
        ({"source": "lab/none"}, 422, "no_gguf_file", ["lab/none"]),
        ({"source": "lab/none:model.safetensors"}, 422, "not_gguf", [".safetensors", "lab/none has none"]),
        ({"source": "{hub}/lab/none/blob/main/README.md"}, 422, "not_gguf", [".md", "lab/none has none"]),
        ({"source": f"{SMOLLM.repo}:README.md"}, 422, "not_gguf", [".md", SMOLLM.recommended_filename]),
        ({"source": "lab/renamed-GGUF"}, 422, "not_gguf", ["renamed.gguf", "ZIP archive", "lab/renamed-GGUF has none"]),
        ({"source": "lab/empty-GGUF"}, 422, "hub_not_verifiable", ["empty.gguf"]),
        ({"source": "https://evil.example/lab/none"}, 422, "hub_not_allowed", ["evil.example"]),
        ({"source": "lab/none:../../etc/passwd.gguf"}, 422, "bad_file_name", []),
        ({"source": "lab/none:{{ 1+1 }}.gguf"}, 422, "invalid_request", []),
        ({"source": "lab/none\u0000"}, 422, "invalid_request", ["source"]),
        ({"source": "x" * 3000}, 422, "invalid_request", ["source"]),
        ({"source": "lab/many-GGUF:many-Q4_0.gguf", "id": "hub"}, 422, "bad_model_id", ["hub"]),
        ({"model": "nobody:1b"}, 404, "unknown_model", ["nobody:1b", "smollm2:135m"]),
        ({"model": "gpt-oss:20b"}, 404, "hub_not_found", ["ggml-org/gpt-oss-20b-GGUF"]),
        ({}, 422, "invalid_request", ["model", "source"]),
        ({"model": "smollm2:135m", "source": "lab/none"}, 422, "invalid_request", []),
        ({"model": "smollm2:135m", "id": "other"}, 422, "invalid_request", []),
        ({"model": "smollm2:135m", "sorce": "lab/none"}, 422, "invalid_request", ["sorce"]),
    ],
)
async def test_what_cannot_be_registered_is_refused_by_name(
    api: Api, hub: Hub, body: dict[str, str], status: int, code: str, named: list[str]
) -> None:
    body = {name: value.replace("{hub}", hub.url) for name, value in body.items()}
    response = await api.http.post("/v0/models/register", json=body)

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    said = f"{error['message']} {error['hint']} {error['details']}"
    assert [name for name in named if name not in said] == []
    assert (await api.http.get("/v0/models")).json()["items"] == []


async def test_an_id_that_stands_for_another_model_is_a_conflict(api: Api) -> None:
    first = {"source": "lab/many-GGUF:many-Q4_0.gguf", "id": "a:b"}
    await api.http.post("/v0/models/register", json=first)

    for source in ("lab/many-GGUF:many-Q8_0.gguf", "lab/split-GGUF"):
        response = await api.http.post("/v0/models/register", json={"source": source, "id": "a:b"})
        assert (response.status_code, response.json()["error"]["code"]) == (409, "model_exists")


async def test_the_token_opens_gated_repositories(tmp_path: Path, hub: Hub) -> None:
    settings = settings_for(tmp_path, hub_endpoint=hub.url, hub_token=hub.token)
    async with running_api(settings) as api:
        response = await api.http.post("/v0/models/register", json={"source": "lab/gated-model"})

    assert response.status_code == 201


async def test_a_hub_that_is_down_is_said_to_be_so_and_the_lists_are_still_served(tmp_path: Path, hub: Hub) -> None:
    async with running_api(settings_for(tmp_path, hub_endpoint=hub.url)) as api:
        await api.http.post("/v0/models/register", json={"model": "smollm2:135m"})
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"

    async with running_api(settings_for(tmp_path, hub_endpoint=nowhere)) as api:
        response = await api.http.post("/v0/models/register", json={"source": "lab/split-GGUF"}, timeout=30)

        assert (response.status_code, response.json()["error"]["code"]) == (503, "hub_unreachable")
        assert nowhere.removeprefix("http://") in response.json()["error"]["message"]
        assert "retry-after" in response.headers
        assert [m["id"] for m in (await api.http.get("/v0/models")).json()["items"]] == ["smollm2:135m"]
        assert len((await api.http.get("/v0/models/hub")).json()["models"]) >= 5


async def test_a_hub_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with running_api(settings_for(tmp_path, hub_endpoint=endpoint, hub_timeout_s=0.5)) as api:
            response = await api.http.post("/v0/models/register", json={"source": "lab/split-GGUF"}, timeout=30)

    assert (response.status_code, response.json()["error"]["code"]) == (503, "hub_unreachable")


async def test_delete_forgets_the_model_and_tells_the_routers(api: Api) -> None:
    await api.http.post("/v0/models/register", json={"model": "smollm2:135m"})
    before = await routes_revision(api)

    assert (await api.http.delete("/v0/models/smollm2:135m")).status_code == 204

    assert await routes_revision(api) == before + 1
    again = await api.http.delete("/v0/models/smollm2:135m")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "unknown_model")
    assert "register" in again.json()["error"]["hint"]


async def test_many_models_are_listed_page_by_page(api: Api) -> None:
    for index in range(3):
        wanted = {"source": "lab/many-GGUF:many-Q4_0.gguf", "id": f"m:{index}"}
        assert (await api.http.post("/v0/models/register", json=wanted)).status_code == 201

    first = (await api.http.get("/v0/models", params={"limit": 2})).json()
    second = (await api.http.get("/v0/models", params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert [m["id"] for m in first["items"] + second["items"]] == ["m:0", "m:1", "m:2"]
    assert second["next_cursor"] is None
