"""Hosts: what may be said of a machine, and what is refused."""

import contextlib
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.fleet.reports import add_host, bearer
from tests.running import Api, running_api, settings_for

pytestmark = pytest.mark.anyio


async def test_a_host_is_added_shown_changed_and_forgotten(api: Api) -> None:
    host = await add_host(api, tags=["site:tokyo"], variables={"gpu_host_require_gpu": False})
    assert host["state"] == "unprovisioned"
    assert (host["host_key"], host["node_id"]) == (None, None)

    assert (await api.http.get("/v0/hosts/gpu-01")).json()["id"] == host["id"]
    changed = (await api.http.patch(f"/v0/hosts/{host['id']}", json={"port": 2222})).json()
    assert (changed["port"], changed["tags"]) == (2222, ["site:tokyo"])

    assert (await api.http.delete(f"/v0/hosts/{host['id']}")).status_code == 204
    assert (await api.http.get("/v0/hosts")).json()["items"] == []


async def test_an_unknown_host_is_answered_with_those_that_exist(api: Api) -> None:
    await add_host(api, "gpu-01")
    response = await api.http.get("/v0/hosts/gpu-02")
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["code"] == "unknown_host"
    assert "gpu-01" in error["hint"]


async def test_two_hosts_cannot_have_one_name(api: Api) -> None:
    await add_host(api, "gpu-01")
    response = await api.http.post("/v0/hosts", json={"name": "gpu-01", "address": "10.0.0.2"})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "host_exists")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "{{ 1+1 }}"),
        ("name", "{{ lookup('pipe','id') }}"),
        ("name", "a\x00b"),
        ("name", "../../etc"),
        ("name", "a;reboot"),
        ("name", "a" * 1_000_000),
        ("address", "10.0.0.1; reboot"),
        ("address", "-oProxyCommand=id"),
        ("user", "root -oProxyCommand=id"),
        ("port", 0),
        ("jump_host", "a -oProxyCommand=id"),
        ("python", "python3; id"),
        ("tags", ["{{ 7*7 }}"]),
        ("connection", "docker"),
        ("surprise", 1),
    ],
)
async def test_what_could_become_code_or_configuration_is_refused_by_field(api: Api, field: str, value: object) -> None:
    response = await api.http.post("/v0/hosts", json={"name": "gpu-01", "address": "10.0.0.1", field: value})
    assert response.status_code == 422
    assert field in response.json()["error"]["message"]
    assert (await api.http.get("/v0/hosts")).json()["items"] == []


async def test_this_machines_own_host_has_the_python_of_the_process_that_runs_now(tmp_path: Path) -> None:
    """The state outlives an installation: what another one left may be gone with it."""
    settings = settings_for(tmp_path)
    async with running_api(settings, local_node=True):
        pass
    with contextlib.closing(sqlite3.connect(settings.state_dir / "control.db", autocommit=True)) as store:
        store.execute("UPDATE host SET python = '/gone/bin/python' WHERE name = 'local'")
    async with running_api(settings, local_node=True) as api:
        assert (await api.http.get("/v0/hosts/local")).json()["python"] == sys.executable


async def test_only_muster_up_makes_a_host_with_a_local_connection(api: Api) -> None:
    response = await api.http.post("/v0/hosts", json={"name": "a", "address": "127.0.0.1", "connection": "local"})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "local_connection")


@pytest.mark.parametrize("name", ["ansible_connection", "ansible_ssh_common_args", "_private", "no_such_option"])
async def test_host_variables_are_public_options_of_the_roles_and_nothing_else(api: Api, name: str) -> None:
    wanted = {"name": "gpu-01", "address": "10.0.0.1", "variables": {name: "local"}}
    response = await api.http.post("/v0/hosts", json=wanted)
    assert response.status_code == 422
    assert name in response.text


async def test_an_inventory_is_imported_whole_or_not_at_all(api: Api) -> None:
    good = "all:\n  hosts:\n    a: {ansible_host: 10.0.0.1, ansible_user: ops}\n    b: {ansible_host: 10.0.0.2}\n"
    bad = good + "    c: {ansible_host: 10.0.0.3, ansible_connection: local}\n"
    refused = await api.http.post("/v0/hosts/import", json={"content": bad, "format": "yaml"})
    assert refused.status_code == 422
    assert "ansible_connection" in refused.text
    assert (await api.http.get("/v0/hosts")).json()["items"] == []

    taken = await api.http.post("/v0/hosts/import", json={"content": good, "format": "yaml"})
    assert taken.status_code == 201
    assert [(h["name"], h["address"], h["user"]) for h in taken.json()["items"]] == [
        ("a", "10.0.0.1", "ops"),
        ("b", "10.0.0.2", None),
    ]


async def test_an_ini_inventory_is_imported(api: Api) -> None:
    content = "[gpu_hosts]\na ansible_host=10.0.0.1 ansible_port=2222\nb\n"
    taken = await api.http.post("/v0/hosts/import", json={"content": content, "format": "ini"})
    assert [(h["name"], h["address"], h["port"]) for h in taken.json()["items"]] == [("a", "10.0.0.1", 2222), ("b", "b", 22)]


@pytest.mark.parametrize("content", ["all: [", "[1, 2]", "just text", "a: {hosts: {b: 1}}", "{}"])
async def test_what_is_no_inventory_is_refused(api: Api, content: str) -> None:
    response = await api.http.post("/v0/hosts/import", json={"content": content, "format": "yaml"})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "bad_inventory")


async def test_lists_are_paged_without_gaps_or_repeats(api: Api) -> None:
    for number in range(5):
        await add_host(api, f"h{number}", f"10.0.0.{number + 1}")
    names, cursor = [], None
    for _ in range(3):
        page = (await api.http.get("/v0/hosts", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        names += [host["name"] for host in page["items"]]
        cursor = page["next_cursor"]
    assert (names, cursor) == (["h0", "h1", "h2", "h3", "h4"], None)
    assert (await api.http.get("/v0/hosts", params={"cursor": "garbage!"})).status_code == 422


async def test_credentials_are_never_shown_again(api: Api) -> None:
    secret = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n"
    body = {"name": "ops", "ssh_private_key": secret, "become_password": "hunter2-hunter2"}
    made = await api.http.post("/v0/credentials", json=body)
    listed = await api.http.get("/v0/credentials")
    assert made.status_code == 201
    assert listed.json()["items"][0]["has_ssh_key"] is True
    for text in (made.text, listed.text):
        assert "c2VjcmV0" not in text
        assert "hunter2" not in text
    store = b"".join(path.read_bytes() for path in api.settings.state_dir.glob("control.db*"))
    assert b"hunter2" not in store
    assert b"c2VjcmV0" not in store


async def test_a_credential_that_a_host_uses_is_not_deleted(api: Api) -> None:
    made = (await api.http.post("/v0/credentials", json={"name": "ops", "become_password": "pw"})).json()
    await add_host(api, credential_id=made["id"])
    assert (await api.http.delete(f"/v0/credentials/{made['id']}")).status_code == 409


async def test_a_new_address_forgets_the_pinned_host_key(api: Api) -> None:
    host = await add_host(api)
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJvZ3VzYm9ndXNib2d1c2JvZ3VzYm9ndXNib2d1c2Jv"
    pinned = (await api.http.put(f"/v0/hosts/{host['id']}/host-key", json={"key": key})).json()
    assert pinned["host_key"]["fingerprint"].startswith("SHA256:")
    moved = (await api.http.patch(f"/v0/hosts/{host['id']}", json={"address": "10.0.0.9"})).json()
    assert moved["host_key"] is None


async def test_a_reader_looks_but_does_not_touch(api: Api) -> None:
    key = (await api.http.post("/v0/api-keys", json={"name": "r", "scopes": ["read"]})).json()["key"]
    assert (await api.http.get("/v0/hosts", headers=bearer(key))).status_code == 200
    refused = await api.http.post("/v0/hosts", json={"name": "a", "address": "10.0.0.1"}, headers=bearer(key))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize("field", ["address", "port", "become", "tags", "variables"])
async def test_what_a_host_cannot_be_without_cannot_be_taken_away(api: Api, field: str) -> None:
    host = (await api.http.post("/v0/hosts", json={"name": "gpu-01", "address": "10.0.0.1", "user": "ops"})).json()
    refused = await api.http.patch(f"/v0/hosts/{host['id']}", json={field: None})
    cleared = await api.http.patch(f"/v0/hosts/{host['id']}", json={"user": None})

    assert refused.status_code == 422
    assert field in refused.json()["error"]["message"]
    assert cleared.json()["user"] is None
    assert (await api.http.get("/v0/hosts")).json()["items"][0][field] == host[field]
