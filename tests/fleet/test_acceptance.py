"""A secret goes only where its owner sent it: what an operator adds is proposed, and what leads secrets is an admin's."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_api.access.service import AccessService
from control_api.automation.models import Job
from control_api.automation.repository import running_job
from control_api.automation.states import JobStatus
from control_api.client import ApiError
from control_api.firststart import prepare
from control_api.fleet.nodes import DEFAULT_PORT, PORT_VARIABLE
from control_api.keys import load_keys
from tests.fleet.reports import add_host, bearer, register, registration, ticket_for
from tests.running import Api

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJvZ3VzYm9ndXNib2d1c2JvZ3VzYm9ndXNib2d1c2Jv"
CONNECTION: dict[str, Any] = {
    "address": "10.6.6.6",
    "port": 2222,
    "user": "ops",
    "become": False,
    "become_exe": "/tmp/sudo",
    "python": "/tmp/python3",
    "jump_host": "ops@10.6.6.6",
}


async def operator(api: Api) -> dict[str, str]:
    """Return the header of an `operate` key."""
    made = await api.http.post("/v0/api-keys", json={"name": "operator", "scopes": ["operate"]})
    return bearer(made.json()["key"])


async def credential(api: Api) -> str:
    """Store a become password and return the credential's id."""
    made = await api.http.post("/v0/credentials", json={"name": "ops", "become_password": "hunter2-hunter2"})
    return str(made.json()["id"])


async def proposed(api: Api, header: dict[str, str], name: str = "gpu-01", **fields: Any) -> dict[str, Any]:
    """Add a host as an operator."""
    made = await api.http.post("/v0/hosts", json={"name": name, "address": "10.0.0.1", **fields}, headers=header)
    assert made.status_code == 201, made.text
    return dict(made.json())


def refusal(response: Any) -> tuple[int, str, list[str]]:
    """Return status, code and the fields that are named."""
    error = response.json()["error"]
    return response.status_code, error["code"], [detail["field"] for detail in error["details"]]


async def test_what_an_operator_adds_is_proposed_and_what_an_admin_adds_is_accepted(api: Api) -> None:
    header = await operator(api)
    imported = {"content": "a: {hosts: {gpu-02: {ansible_host: 10.0.0.2}}}", "format": "yaml"}
    taken = await api.http.post("/v0/hosts/import", json=imported, headers=header)
    seen = [await proposed(api, header), *taken.json()["items"], await add_host(api, "gpu-03")]

    assert [host["acceptance"] for host in seen] == ["proposed", "proposed", "accepted"]
    assert [host["accepted_by"] for host in seen] == [None, None, "api_key:bootstrap"]
    inventory = (await api.http.get("/v0/inventory", headers=header)).json()
    assert [host["name"] for host in inventory["hosts"]] == ["gpu-03"]


async def test_nothing_reaches_a_proposed_host(api: Api) -> None:
    header, accepted = await operator(api), await add_host(api, "gpu-02")
    host = await proposed(api, header)
    orders = [
        ("/v0/jobs", {"playbook": "site.yml", "hosts": [accepted["id"], "gpu-01"]}),
        ("/v0/jobs", {"playbook": "mine.yml", "hosts": ["gpu-01"], "external": True}),
        ("/v0/plan", {"hosts": ["gpu-01"]}),
        ("/v0/drift", {"hosts": ["gpu-01"]}),
        (f"/v0/hosts/{host['id']}/enrolment", None),
        ("/v0/hosts/gpu-01/enrolment?force=true", None),
    ]
    for path, body in orders:
        for by in (header, {}):
            refused = await api.http.post(path, json=body, headers=by)
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "host_proposed"), path
            assert "gpu-01" in refused.json()["error"]["message"]

    all_of_them = (await api.http.post("/v0/drift", json={}, headers=header)).json()
    assert [one["name"] for one in all_of_them["hosts"]] == ["gpu-02"]
    drift = {row["host"]["name"]: row["reason"] for row in (await api.http.get("/v0/drift")).json()["items"]}
    assert drift == {"gpu-01": "No admin has accepted it yet.", "gpu-02": "It was never checked."}


@pytest.mark.parametrize("api", ["sqlite", "postgresql"], indirect=True)
async def test_only_an_admin_accepts_and_that_is_on_record(api: Api) -> None:
    header = await operator(api)
    host = await proposed(api, header)
    path = f"/v0/hosts/{host['id']}/accept"

    assert (await api.http.post(path, headers=header)).json()["error"]["code"] == "forbidden"
    accepted = (await api.http.post(path)).json()
    again = (await api.http.post(path)).json()

    assert (accepted["acceptance"], accepted["accepted_by"]) == ("accepted", "api_key:bootstrap")
    assert again == accepted
    assert (await api.http.post("/v0/hosts/gpu-01/enrolment", headers=header)).status_code == 201


async def test_an_admin_accepts_what_was_shown_and_nothing_else(api: Api) -> None:
    header = await operator(api)
    host = await proposed(api, header)
    shown = {name: host[name] for name in CONNECTION}
    for name, value in CONNECTION.items():
        assert (await api.http.patch("/v0/hosts/gpu-01", json={name: value}, headers=header)).status_code == 200
        refused = await api.http.post("/v0/hosts/gpu-01/accept", json=shown)
        assert refusal(refused) == (409, "host_changed", [name])
        await api.http.patch("/v0/hosts/gpu-01", json={name: host[name]})
    assert (await api.http.post("/v0/hosts/gpu-01/accept", json=shown)).status_code == 200


async def test_a_host_key_that_was_pinned_after_the_admin_looked_is_not_accepted(api: Api) -> None:
    header = await operator(api)
    await proposed(api, header)
    unpinned = await api.client.hosts.get("gpu-01")
    await api.client.hosts.put_host_key("gpu-01", KEY)
    pinned = await api.client.hosts.get("gpu-01")
    with pytest.raises(ApiError, match="host_key"):
        await api.client.hosts.accept(unpinned)
    for other in (f"ssh-ed25519 {KEY[-8:]}", None):
        await api.http.put("/v0/hosts/gpu-01/host-key", json={"key": other}, headers=header)
        with pytest.raises(ApiError, match="host_key"):
            await api.client.hosts.accept(pinned)
    await api.client.hosts.put_host_key("gpu-01", KEY)
    assert (await api.client.hosts.accept(pinned)).acceptance == "accepted"


def group_names() -> set[str]:
    """Return the groups that playbooks name, and those that roles make."""
    plays = [play for path in (REPOSITORY / "playbooks").glob("*.yml") for play in yaml.safe_load(path.read_text())]
    named = {part for play in plays for part in play.get("hosts", "").split(":") if part}
    files = (REPOSITORY / "roles").glob("*/tasks/*.yml")
    made = [text for path in files for text in re.findall(r"group_by:\n +key: (.+)", path.read_text())]
    return named | {name for text in made for name in re.findall(r"\w+_switch", text)}


async def test_no_host_is_called_like_a_group_which_plays_would_miss_for_it(api: Api) -> None:
    header = await operator(api)
    groups = group_names()
    assert {"gpu_hosts", "node_service_switch", "gpu_host_switch", "control_plane"} <= groups
    for name in (*sorted(groups), "all", "ungrouped", "state_provisioned", "tag_site_tokyo", "127.0.0.1"):
        for by in (header, {}):
            refused = await api.http.post("/v0/hosts", json={"name": name, "address": "10.6.6.6"}, headers=by)
            assert refused.status_code == 422, name
            assert "something else to Ansible" in refused.text


async def test_tags_of_a_registration_count_if_an_admin_or_a_job_got_its_ticket(api: Api) -> None:
    header = await operator(api)
    host = await add_host(api, tags=["site:tokyo"])
    key_id = (await api.http.get("/v0/api-keys")).json()["items"][0]["id"]
    for asker, counts in ((header, False), (await job_header(api, host["id"], f"api_key:{key_id}"), True), ({}, True)):
        ticket = await api.http.post("/v0/hosts/gpu-01/enrolment", headers=asker)
        node = (await register(api, ticket.json()["ticket"], tags=["gpu-a", "site:tokyo"])).json()["node_id"]
        (first,) = (await api.http.get(f"/v0/nodes/{node}/transitions")).json()

        assert (await api.http.get(f"/v0/nodes/{node}")).json()["tags"] == ["gpu-a", "site:tokyo"][not counts :]
        assert first["reason"] == ("registered" if counts else "registered, without gpu-a: an admin sets tags")
        await api.http.delete(f"/v0/nodes/{node}")


@pytest.mark.parametrize(
    "elsewhere", ["http://10.0.0.1:9999", "https://10.0.0.1:8090", "http://10.0.0.1:8090/v0/auth/login", "http://10.0.0.1"]
)
async def test_where_at_its_host_a_node_is_reached_is_no_operators_choice(api: Api, elsewhere: str) -> None:
    """Prompts and the node's key go there, and somebody else may listen at another port."""
    header, host = await operator(api), await add_host(api)
    key_id = (await api.http.get("/v0/api-keys")).json()["items"][0]["id"]

    async def registered(asker: dict[str, str], base_url: str) -> int:
        ticket = await api.http.post("/v0/hosts/gpu-01/enrolment", headers=asker, params={"force": True})
        answer = await register(api, ticket.json()["ticket"], base_url=base_url)
        assert answer.status_code == 201 or answer.json()["error"]["code"] == "base_url_not_allowed"
        return answer.status_code

    assert await registered(header, elsewhere) == 422
    assert await registered(header, "http://10.0.0.1:8090/") == 201
    assert await registered(header, elsewhere) == 422
    assert (await api.http.get("/v0/nodes/gpu-01")).json()["base_url"] == "http://10.0.0.1:8090"
    for asker in (await job_header(api, host["id"], f"api_key:{key_id}"), {}):
        assert await registered(asker, elsewhere) == 201
        assert await registered(header, "http://10.0.0.1:8090") == 422
        assert await registered(header, elsewhere) == 201


async def test_a_new_node_may_come_to_the_port_that_an_admin_gave_its_host(api: Api) -> None:
    header, _ = await operator(api), await add_host(api, variables={"node_service_port": 9000})
    ticket = (await api.http.post("/v0/hosts/gpu-01/enrolment", headers=header)).json()["ticket"]
    refused = await register(api, ticket)
    assert (refused.status_code, "at port 9000" in refused.text) == (422, True)
    assert (await register(api, ticket, base_url="http://10.0.0.1:9000")).status_code == 201


def test_the_port_of_a_node_is_that_of_its_role() -> None:
    defaults = yaml.safe_load((REPOSITORY / "roles/node_service/defaults/main.yml").read_text())
    assert defaults[PORT_VARIABLE] == DEFAULT_PORT


async def job_header(api: Api, host_id: str, asker: str) -> dict[str, str]:
    """Return the header of a running job on a host, that somebody asked for."""
    identity = await prepare(api.settings, api.database, load_keys(api.settings))
    async with api.database.control.write() as session:
        job = Job(playbook="site.yml", requested_by="x", asker=asker, status=JobStatus.RUNNING, attempt=1)
        session.add(job)
    return bearer(AccessService(identity.signer, running_job=running_job).issue_job_token(job.id, 1, [host_id], 600))


async def test_an_operator_sets_neither_tags_nor_credentials_of_any_host(api: Api) -> None:
    header, secret = await operator(api), await credential(api)
    await proposed(api, header, "gpu-01")
    await add_host(api, "gpu-02", tags=["site:tokyo"], credential_id=secret)
    for name, value in (("tags", ["site:osaka"]), ("credential_id", secret)):
        added = {"name": "gpu-03", "address": "10.6.6.6", name: value}
        assert refusal(await api.http.post("/v0/hosts", json=added, headers=header)) == (403, "admin_only_field", [name])
        changed = await api.http.patch("/v0/hosts/gpu-01", json={name: value}, headers=header)
        assert refusal(changed) == (403, "admin_only_field", [name])
    for name, value in (("tags", []), ("credential_id", None)):
        changed = await api.http.patch("/v0/hosts/gpu-02", json={name: value}, headers=header)
        assert refusal(changed) == (403, "admin_only_field", [name])
    hosts = {host["name"]: host for host in (await api.http.get("/v0/hosts")).json()["items"]}
    assert {name: (host["tags"], host["credential_id"]) for name, host in hosts.items()} == {
        "gpu-01": ([], None),
        "gpu-02": (["site:tokyo"], secret),
    }


@pytest.mark.parametrize("reason", ["accepted", "credential"])
async def test_how_a_host_is_reached_is_an_admins_to_change_once_something_hangs_on_it(api: Api, reason: str) -> None:
    header = await operator(api)
    host = await proposed(api, header)
    for name, value in CONNECTION.items():
        assert (await api.http.patch("/v0/hosts/gpu-01", json={name: value}, headers=header)).json()[name] == value
    assert (await api.http.put("/v0/hosts/gpu-01/host-key", json={"key": KEY}, headers=header)).status_code == 200
    if reason == "accepted":
        host = (await api.http.post("/v0/hosts/gpu-01/accept")).json()
    else:
        host = (await api.http.patch("/v0/hosts/gpu-01", json={"credential_id": await credential(api)})).json()

    others = {"address": "10.0.0.1", "port": 22, "user": None, "become": True}
    others |= {"become_exe": None, "python": "python3", "jump_host": None}
    for name, value in others.items():
        # Beside what stays as it is, which is no change.
        refused = await api.http.patch("/v0/hosts/gpu-01", json={**CONNECTION, name: value}, headers=header)
        assert refusal(refused) == (403, "admin_only_field", [name])
    for key in (KEY, None):
        refused = await api.http.put("/v0/hosts/gpu-01/host-key", json={"key": key}, headers=header)
        assert refusal(refused) == (403, "admin_only_field", ["host_key"])
    assert (await api.http.get("/v0/hosts/gpu-01")).json() == host

    moved = (await api.http.patch("/v0/hosts/gpu-01", json=others)).json()
    assert ({name: moved[name] for name in others}, moved["host_key"]) == (others, None)
    assert moved["acceptance"] == host["acceptance"]


async def test_a_host_that_was_forgotten_and_added_again_is_another_host(api: Api) -> None:
    header = await operator(api)
    old = await add_host(api, tags=["site:tokyo"])
    stale = await ticket_for(api, old)
    node = (await register(api, await ticket_for(api, old))).json()
    assert (await api.http.delete("/v0/hosts/gpu-01", headers=header)).status_code == 204
    new = await proposed(api, header)

    assert (new["acceptance"], new["tags"], new["node_id"]) == ("proposed", [], None)
    assert (await register(api, stale)).json()["error"]["code"] == "bad_ticket"
    known = await api.http.get(f"/v0/nodes/{node['node_id']}/manifest", headers=bearer(node["node_token"]))
    assert known.status_code == 404


async def test_only_an_admin_lets_nodes_in_and_tags_them(api: Api) -> None:
    header = await operator(api)
    api.settings.node_networks.append("10.9.0.0/16")
    ticket = (await api.http.post("/v0/enrolments")).json()["ticket"]
    node = (await register(api, ticket, base_url="http://10.9.1.2:8090", name="stray")).json()
    path = f"/v0/nodes/{node['node_id']}"

    for method, where, body in (("POST", "/approve", None), ("PATCH", "", {"tags": ["site:tokyo"]})):
        refused = await api.http.request(method, path + where, json=body, headers=header)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        assert (await api.http.request(method, path + where, json=body)).status_code == 200


@pytest.mark.parametrize(
    ("address", "base_url", "taken"),
    [
        ("10.0.0.1", "http://10.0.0.1:9999", True),
        ("fd00::1", "http://[FD00:0::1]:8090", True),
        ("GPU-01.example.org", "https://gpu-01.example.org.:8090", True),
        ("10.0.0.1", "http://10.9.0.1:8090", False),
        ("10.0.0.1", "http://gpu-01.example.org:8090", False),
        ("10.0.0.1", "http://10.0.0.1:8090@10.9.0.1/", False),
        ("10.0.0.1", "http://10.0.0.1@10.9.0.1:8090", False),
        ("10.0.0.1", "http://ops:secret@10.0.0.1:8090", False),
        ("10.0.0.1", "http://10.0.0.1.evil.example:8090", False),
        ("10.0.0.1", "http://10.0.0.1:8090/?to=//10.9.0.1", False),
        ("10.0.0.1", "http://[::ffff:10.0.0.1]:8090", False),
    ],
)
async def test_a_host_s_node_is_at_the_host_whatever_networks_are_allowed(
    api: Api, address: str, base_url: str, taken: bool
) -> None:
    api.settings.node_networks.append("0.0.0.0/0")
    ticket = await ticket_for(api, await add_host(api, address=address))
    answer = await api.http.post("/v0/nodes/register", json=registration(base_url=base_url), headers=bearer(ticket))
    assert (answer.status_code == 201) is taken, answer.text
    assert taken or answer.json()["error"]["code"] == "base_url_not_allowed"


@pytest.mark.parametrize("api", ["sqlite", "postgresql"], indirect=True)
async def test_a_host_that_moves_while_it_is_accepted_is_either_moved_or_accepted(api: Api) -> None:
    header = await operator(api)
    hosts = [await proposed(api, header, f"gpu-{number}") for number in range(6)]
    moves = [api.http.patch(f"/v0/hosts/{host['id']}", json={"address": "10.6.6.6"}, headers=header) for host in hosts]
    accepts = [api.http.post(f"/v0/hosts/{host['id']}/accept", json={"address": "10.0.0.1"}) for host in hosts]
    answers = await asyncio.gather(*(both for pair in zip(moves, accepts, strict=True) for both in pair))

    for moved, accepted in zip(answers[::2], answers[1::2], strict=True):
        assert (moved.status_code, accepted.status_code) in {(200, 409), (403, 200)}
    for host in (await api.http.get("/v0/hosts")).json()["items"]:
        assert (host["address"], host["acceptance"]) in {("10.6.6.6", "proposed"), ("10.0.0.1", "accepted")}
