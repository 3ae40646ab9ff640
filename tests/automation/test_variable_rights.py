"""Who may give which variable to a host or a job, asked over HTTP with the options of the real roles."""

import contextlib
import itertools
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlmodel import select

from control_api.access.api_keys import api_key_row
from control_api.access.models import ApiKey
from control_api.access.schemas import ApiKeyCreate, Scope
from control_api.automation.drift import DriftSchedule, DriftService
from control_api.automation.models import HostDrift, Plan
from control_api.automation.states import HostStatus
from control_api.kit.secretbox import new_token
from tests.automation.site import Site
from tests.fleet.reports import add_host, bearer
from tests.running import Api, running_api, settings_for

pytestmark = pytest.mark.anyio

OPTIONS_OF_ADMINS = {
    "node_service_port": 9000,
    "gpu_host_firewall": False,
    "gpu_host_driver_version": "580",
    "muster_proxy_env": {"https_proxy": "http://proxy.example.org:3128"},
    "muster_break_lock": True,
}
OPTIONS_OF_THE_SITE = {
    "node_service_user": "llm",
    "node_service_name": "../../x",
    "node_service_data_dir": "/srv/models\nExecStartPre=+/bin/sh",
    "gpu_host_sysctl": {"kernel.core_pattern": "|/bin/sh -c id"},
    "node_service_api_url": "http://192.0.2.1",
    "node_service_hub_endpoint": "http://192.0.2.1",
    "node_service_hub_token": "hf_x",
    "gpu_host_privileged": False,
    "node_service_wheelhouse_dir": "/tmp",
}


@contextlib.asynccontextmanager
async def operator(api: Api, name: str = "carol") -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client with a key that may operate and no more."""
    made = await api.http.post("/v0/api-keys", json={"name": name, "scopes": ["operate"]})
    async with httpx2.AsyncClient(base_url=api.url, headers=bearer(made.json()["key"]), timeout=30) as client:
        yield client


async def refused(asking: httpx2.AsyncClient, method: str, path: str, body: Any, code: str) -> dict[str, Any]:
    """Ask, and return the error, which must have this code."""
    answer = await asking.request(method, path, json=body)
    assert answer.status_code in (403, 422), answer.text
    error = dict(answer.json()["error"])
    assert error["code"] == code, error
    return error


async def accepted(asking: httpx2.AsyncClient, method: str, path: str, body: Any) -> dict[str, Any]:
    """Ask, and return the answer, which must be a good one."""
    answer = await asking.request(method, path, json=body)
    assert answer.status_code < 300, answer.text
    return dict(answer.json())


def job(host: str, **variables: Any) -> dict[str, Any]:
    return {"playbook": "converge.yml", "hosts": [host], "extra_vars": variables}


async def test_an_operator_is_told_which_options_are_an_admins(api: Api) -> None:
    await add_host(api)
    async with operator(api) as carol:
        for name, value in OPTIONS_OF_ADMINS.items():
            inventory = json.dumps({"all": {"hosts": {"b": {name: value}}}})
            for method, path, body, field in (
                ("POST", "/v0/jobs", job("gpu-01", **{name: value}), "extra_vars"),
                ("POST", "/v0/hosts", {"name": "b", "address": "10.0.0.2", "variables": {name: value}}, "variables"),
                ("PATCH", "/v0/hosts/gpu-01", {"variables": {name: value}}, "variables"),
                ("POST", "/v0/hosts/import", {"content": inventory}, "variables"),
            ):
                error = await refused(carol, method, path, body, "variable_not_yours")
                assert error["details"][0]["field"] == f"{field}.{name}"
                assert "class admin" in error["message"]
                assert "MUSTER_SITE_DIR" in error["message"]
    await accepted(api.http, "POST", "/v0/jobs", job("gpu-01", **OPTIONS_OF_ADMINS))
    await accepted(api.http, "PATCH", "/v0/hosts/gpu-01", {"variables": OPTIONS_OF_ADMINS})


async def test_a_job_runs_what_somebody_chose_and_not_only_what_runs_always(api: Api) -> None:
    await add_host(api)
    for tag in ("always", "never", "all"):
        await refused(api.http, "POST", "/v0/jobs", {**job("gpu-01"), "tags": [tag]}, "unknown_tag")


async def test_nobody_sets_options_of_the_site_through_the_api(api: Api) -> None:
    await add_host(api)
    async with operator(api) as carol:
        for asking, (name, value) in itertools.product((carol, api.http), OPTIONS_OF_THE_SITE.items()):
            given = {name: value}
            for method, path, body in (
                ("POST", "/v0/jobs", job("gpu-01", **given)),
                ("POST", "/v0/hosts", {"name": "b", "address": "10.0.0.2", "variables": given}),
                ("PATCH", "/v0/hosts/gpu-01", {"variables": given}),
            ):
                error = await refused(asking, method, path, body, "bad_variable")
                assert "class site" in error["message"]


async def test_what_an_admin_stored_passes_through_an_operators_edit_unchanged_and_only_so(api: Api) -> None:
    stored = {"node_service_port": 9000, "gpu_host_firewall": False, "node_service_slots": 4}
    await add_host(api, variables=stored)
    path = "/v0/hosts/gpu-01"
    async with operator(api) as carol:
        changed = await accepted(carol, "PATCH", path, {"variables": {**stored, "node_service_slots": 8}})
        assert changed["variables"] == {**stored, "node_service_slots": 8}
        for wanted in (
            {**stored, "node_service_port": 9001},
            {**stored, "gpu_host_firewall": True},
            {name: value for name, value in stored.items() if name != "node_service_port"},
            {},
        ):
            await refused(carol, "PATCH", path, {"variables": wanted}, "variable_not_yours")
        assert (await accepted(carol, "GET", path, None))["variables"] == {**stored, "node_service_slots": 8}
        await accepted(carol, "POST", "/v0/jobs", job("gpu-01"))
    assert (await accepted(api.http, "PATCH", path, {"variables": {}}))["variables"] == {}


async def test_a_job_is_repeated_with_the_rights_of_whoever_repeats_it(api: Api) -> None:
    await add_host(api)
    async with operator(api) as carol, operator(api, "dave") as dave:
        of_admin = await accepted(api.http, "POST", "/v0/jobs", job("gpu-01", node_service_port=9000))
        of_carol = await accepted(carol, "POST", "/v0/jobs", {**job("gpu-01", drain_reason="rack"), "playbook": "drain.yml"})
        for queued in (of_admin, of_carol):
            await accepted(api.http, "POST", f"/v0/jobs/{queued['id']}/cancel", None)

        error = await refused(carol, "POST", f"/v0/jobs/{of_admin['id']}/retry", None, "variable_not_yours")
        assert error["details"][0]["field"] == "extra_vars.node_service_port"
        again = await accepted(api.http, "POST", f"/v0/jobs/{of_admin['id']}/retry", None)
        assert again["extra_vars"] == {"node_service_port": 9000}
        of_dave = await accepted(dave, "POST", f"/v0/jobs/{of_carol['id']}/retry", None)
        assert (of_dave["requested_by"], of_dave["retry_of"]) == ("api_key:dave", of_carol["id"])


OWN = ["127.0.0.1", "127.8.9.10", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "localhost"]


async def test_the_machine_that_runs_the_jobs_takes_a_short_list_from_anybody(api: Api) -> None:
    await add_host(api, "far", address="10.0.0.1")
    for number, address in enumerate([*OWN, socket.gethostname()]):
        host = await add_host(api, f"own-{number}", address=address, variables={"node_service_slots": 8})
        for given in ({"node_service_port": 9000}, {"gpu_host_allow_reboot": True}):
            for method, path, body in (
                ("POST", "/v0/jobs", {**job(host["name"], **given), "hosts": ["far", host["name"]]}),
                ("POST", "/v0/hosts", {"name": "b", "address": address, "variables": given}),
                ("PATCH", f"/v0/hosts/{host['name']}", {"variables": given}),
            ):
                error = await refused(api.http, method, path, body, "controller_variable")
                assert next(iter(given)) in error["message"]
                assert "MUSTER_SITE_DIR" in error["hint"]
        await accepted(api.http, "POST", "/v0/jobs", job(host["name"], node_service_context=8192, drain_reason="try"))


async def test_a_host_with_other_options_does_not_move_to_this_machine(api: Api) -> None:
    await add_host(api, address="10.0.0.1", variables={"node_service_port": 9000})

    await refused(api.http, "PATCH", "/v0/hosts/gpu-01", {"address": "127.0.0.1"}, "controller_variable")
    moved = await accepted(api.http, "PATCH", "/v0/hosts/gpu-01", {"address": "127.0.0.1", "variables": {}})

    assert (moved["address"], moved["variables"]) == ("127.0.0.1", {})


async def test_the_local_host_keeps_what_muster_up_gave_it(tmp_path: Path) -> None:
    async with running_api(settings_for(tmp_path), local_node=True) as api, operator(api) as carol:
        local = await accepted(carol, "GET", "/v0/hosts/local", None)
        given = local["variables"]
        assert given["muster_privileged"] is False

        tuned = {**given, "node_service_engine_threads": 2, "node_service_drain_force": True}
        assert (await accepted(carol, "PATCH", "/v0/hosts/local", {"variables": tuned}))["variables"] == tuned
        await accepted(carol, "POST", "/v0/jobs", job("local", node_service_context=8192))
        lost = {name: value for name, value in tuned.items() if name != "muster_privileged"}
        await refused(api.http, "PATCH", "/v0/hosts/local", {"variables": lost}, "controller_variable")
        reached = {
            "python": "/tmp/x",
            "become_exe": "/tmp/x",
            "jump_host": "a@b",
            "user": "x",
            "address": "10.0.0.1",
            "port": 23,
        }
        for name, value in (reached | {"become": not local["become"]}).items():
            await refused(api.http, "PATCH", "/v0/hosts/local", {name: value}, "local_connection")
            assert (await accepted(carol, "GET", "/v0/hosts/local", None))[name] == local[name]
        await refused(api.http, "PATCH", "/v0/hosts/local", {"variables": {**tuned, "muster_privileged": True}}, "bad_variable")
        port = {**tuned, "node_service_port": 9000}
        await refused(api.http, "PATCH", "/v0/hosts/local", {"variables": port}, "controller_variable")


async def change(site: Site, name: str, **values: Any) -> None:
    """Change a host in the store, as a release before this one or a name server may have."""
    async with site.database.control.write() as session:
        host = await site.fleet.host(session, name)
        host.sqlmodel_update(values)
        session.add(host)


SSH = {"connection": "ssh", "address": "192.0.2.9"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"variables": {"demo_port": 22}}, "demo_port: must be 1024 to 65535"),
        ({"variables": {"muster_privileged": False}}, "muster_privileged: is of class site"),
        ({"variables": {"gone_since": 1}}, "gone_since: is not an option"),
        ({"address": "localhost", "variables": {"demo_port": 9000}}, "gpu-01: demo_port: gpu-01 is the machine"),
    ],
)
async def test_what_is_stored_is_looked_at_again_when_a_job_starts(site: Site, changed: dict[str, Any], said: str) -> None:
    await site.add_host("gpu-01", **SSH)
    queued = await site.start("verify.yml", "gpu-01")
    await change(site, "gpu-01", **changed)

    async with site.working():
        ended = await site.ended(queued)
    again = await site.post("/v0/jobs", {"playbook": "verify.yml", "hosts": ["gpu-01"]}, status=422)

    assert ended["status"] == "failed"
    assert said in ended["reason"]
    assert said in again["error"]["message"]
    assert await site.events(queued) == []


async def test_plays_are_told_what_the_controller_does_not_take(site: Site) -> None:
    await site.add_host("gpu-01", **SSH, variables={"demo_flag": True})
    await site.add_host("gpu-02", **SSH)
    await change(site, "gpu-02", variables={"demo_port": 9000})

    async with site.working():
        job_id = await site.start("verify.yml", "gpu-01", "gpu-02")
        assert (await site.ended(job_id))["status"] == "successful"
    by_host = {event["host"]: event["stdout"] for event in await site.events(job_id) if "looked" in event["stdout"]}

    assert "demo_port" in by_host["gpu-02"]
    assert "demo_port" not in by_host["gpu-01"]


async def test_one_host_with_options_that_no_run_may_have_keeps_no_other_from_being_checked(site: Site) -> None:
    await site.add_host("gpu-01", **SSH)
    await site.add_host("gpu-02", **SSH)
    await change(site, "gpu-01", variables={"muster_privileged": False})

    await DriftSchedule(site.database.control, DriftService(site.jobs), 3600).turn(7200)

    (queued,) = (await site.http.get("/v0/jobs")).json()["items"]
    assert [host["name"] for host in queued["hosts"]] == ["gpu-02"]


async def as_operator(site: Site) -> None:
    """Ask with a key that may operate from now on."""
    secret = new_token("mk")
    async with site.database.control.write() as session:
        session.add(api_key_row(secret, ApiKeyCreate(name="carol", scopes=[Scope.OPERATE])))
    site.http.headers["authorization"] = f"Bearer {secret}"


async def test_what_was_planned_or_has_drifted_is_applied_as_whoever_applies_it(site: Site) -> None:
    host = await site.add_host("gpu-01", **SSH)
    await change(site, "gpu-01", variables={"demo_port": 9000})
    planned = await site.post("/v0/plan", {"hosts": ["gpu-01"]})
    await site.post(f"/v0/jobs/{planned['id']}/cancel")
    async with site.database.control.write() as session:
        plan = await session.get_one(Plan, planned["id"])
        plan.plan_hash = "a" * 64
        session.add(plan)
        session.add(HostDrift(host_id=host.id, status=HostStatus.DRIFTED, job_id=planned["id"], tasks=[]))
    await as_operator(site)

    applied = await site.post("/v0/apply", {"plan_hash": "a" * 64})
    put_right = await site.post("/v0/drift/apply", {})

    assert planned["requested_by"] == "api_key:tests"
    assert applied["requested_by"] == put_right["requested_by"] == "api_key:carol"
    await change(site, "gpu-01", variables={"muster_privileged": True})
    for path, body in (("/v0/drift/apply", {}), ("/v0/drift", {}), ("/v0/plan", {})):
        assert (await site.post(path, body, status=422))["error"]["code"] == "bad_variable"


async def test_a_job_has_the_rights_that_its_asker_has_when_it_starts(site: Site) -> None:
    await site.add_host("gpu-01", **SSH)
    queued = await site.start("verify.yml", "gpu-01", extra_vars={"demo_port": 9000})
    async with site.database.control.write() as session:
        key = (await session.exec(select(ApiKey))).one()
        key.scopes = [Scope.OPERATE]
        session.add(key)

    async with site.working():
        ended = await site.ended(queued)

    assert (ended["status"], ended["attempt"]) == ("failed", 1)
    assert "demo_port: is of class admin" in ended["reason"]
