"""The inventory plugin, through the commands that people and CI use."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.fake_api import FakeApi
from tests.ansible.runs import Ansible


def variables(listing: str, name: str) -> dict[str, Any]:
    """Return a host's variables, without the marks of untrusted values."""
    document = json.loads(listing, object_hook=lambda o: o["__ansible_unsafe"] if set(o) == {"__ansible_unsafe"} else o)
    return document["_meta"]["hostvars"][name]


def test_hosts_come_with_groups_connection_and_variables(api: FakeApi, ansible: Ansible) -> None:
    host = api.add_host(
        "gpu-01", address="10.0.0.7", port=2222, tags=["site:tokyo"], state="provisioned", jump_host="ops@bastion:22",
        become_exe="sudo.ws", variables={"node_service_port": 9000},
    )  # fmt: skip
    node = api.add_node(host)
    api.add_host("gpu-02", address="10.0.0.8", tags=["site:tokyo"])

    run = ansible.inventory()

    assert run.rc == 0, run.output
    listing = json.loads(run.output)
    assert all("gpu-01" in listing[group]["hosts"] for group in ("gpu_hosts", "state_provisioned", "tag_site_tokyo"))
    got = variables(run.output, "gpu-01")
    expected = {
        "ansible_host": "10.0.0.7", "ansible_port": 2222, "ansible_user": "ops", "ansible_become": True,
        "ansible_become_exe": "sudo.ws", "muster_host_id": host["id"], "muster_node_id": node["id"],
        "muster_tags": ["site:tokyo"], "muster_api_url": api.url, "muster_router_url": api.url, "node_service_port": 9000,
        "muster_site_addresses": ["10.0.0.7", "10.0.0.8"],
    }  # fmt: skip
    assert expected.items() <= got.items()
    assert "-o ProxyJump=ops@bastion:22" in got["ansible_ssh_common_args"]


def test_host_key_is_taken_at_first_contact_and_required_afterwards(api: FakeApi, ansible: Ansible) -> None:
    new = api.add_host("new")
    known = api.add_host("known", host_key={"type": "ssh-ed25519", "key": "AAAAC3Nz"})

    output = ansible.inventory().output

    directory = Path(ansible.environment["MUSTER_KNOWN_HOSTS_DIR"])
    assert "StrictHostKeyChecking=accept-new" in variables(output, "new")["ansible_ssh_common_args"]
    arguments = variables(output, "known")["ansible_ssh_common_args"]
    assert "StrictHostKeyChecking=yes" in arguments
    assert f"HostKeyAlias={known['id']}" in arguments
    assert f"UserKnownHostsFile={directory / known['id']}" in arguments
    assert (directory / known["id"]).read_text() == f"{known['id']} ssh-ed25519 AAAAC3Nz\n"
    assert (directory / known["id"]).stat().st_mode & 0o777 == 0o600
    assert not (directory / new["id"]).exists()


def test_templates_in_values_are_never_evaluated(api: FakeApi, ansible: Ansible, tmp_path: Path) -> None:
    marker = tmp_path / "evaluated"
    evil = f"{{{{ lookup('ansible.builtin.pipe', 'touch {marker}') }}}}"
    api.add_host("{{ 1+1 }}", connection="local", tags=[evil, "{{ 2+2 }}"], variables={"node_service_hub_endpoint": evil})
    playbook = tmp_path / "show.yml"
    task = {"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} {{ muster_tags }} {{ node_service_hub_endpoint }}"}}
    playbook.write_text(yaml.safe_dump([{"hosts": "gpu_hosts", "gather_facts": False, "tasks": [task]}]))

    run = ansible.playbook(str(playbook))

    assert run.rc == 0, run.output
    assert "{{ 1+1 }}" in run.output
    assert "{{ 2+2 }}" in run.output
    assert not marker.exists()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"MUSTER_API_URL": "http://127.0.0.1:1"}, "cannot reach the control API"),
        ({"MUSTER_API_KEY": "wrong"}, "the token or API key is not valid"),
        ({"MUSTER_API_KEY": ""}, "set MUSTER_API_KEY or MUSTER_TOKEN_FILE"),
        ({"MUSTER_TOKEN_FILE": "/nonexistent"}, "cannot read the token file"),
        ({"MUSTER_INVENTORY_SNAPSHOT": "/nonexistent"}, "cannot read the inventory snapshot"),
    ],
)
@pytest.mark.parametrize("command", ["inventory", "playbook"])
def test_no_answer_is_red(api: FakeApi, ansible: Ansible, command: str, environment: dict[str, str], reason: str) -> None:
    api.add_host("gpu-01")

    arguments = ("playbooks/provision.yml",) if command == "playbook" else ()
    run = getattr(ansible, command)(*arguments, **environment)

    assert run.rc != 0
    assert reason in run.output


def test_an_empty_fleet_is_red(ansible: Ansible) -> None:
    run = ansible.inventory()

    assert run.rc != 0
    assert "holds no host" in run.output


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"variables": {"ansible_connection": "local"}}, "variable name"),
        ({"variables": {"_node_service_release": "x"}}, "variable name"),
        ({"address": "-oProxyCommand=id"}, "address"),
        ({"user": "a b"}, "user"),
        ({"jump_host": "x -oProxyCommand=id"}, "jump host"),
        ({"id": "../../etc/x"}, "id"),
        ({"host_key": {"type": "ssh-ed25519", "key": "AAAA\nother"}}, "host key"),
    ],
)
def test_values_that_would_configure_ansible_are_refused(
    api: FakeApi, ansible: Ansible, fields: dict[str, Any], reason: str
) -> None:
    api.add_host("gpu-01", **fields)

    run = ansible.inventory()

    assert run.rc != 0
    assert f"has an {reason} that is not allowed" in " ".join(run.output.split())


def test_one_host_that_cannot_be_said_does_not_hide_the_others(api: FakeApi, ansible: Ansible, tmp_path: Path) -> None:
    api.add_host("gpu-01", address="10.0.0.7", tags=["site:tokyo"])
    bad: list[dict[str, Any]] = [
        {"address": "10.0.0.8\n"}, {"address": "::1%eth0;id"}, {"address": None}, {"user": "ops\n"}, {"become_exe": "sudo\n"},
        {"python": "python3\n"}, {"jump_host": "a\n"}, {"id": "x\n"}, {"variables": {"a\n": 1}},
        {"variables": {"ansible_port": 1}}, {"variables": None}, {"port": "x"},
        {"host_key": {"type": "ssh-ed25519", "key": "AAAA\n"}},
        {"host_key": {"type": "ssh-ed25519"}},
    ]  # fmt: skip
    for number, fields in enumerate(bad, start=10):
        api.add_host(f"gpu-{number}", **({"tags": ["site:tokyo"]} | fields))
    for name in ("localhost", "127.0.0.1", "all", "", "gpu_hosts", "node_service_switch", "tag_x", "state_provisioned"):
        api.add_host(name)

    run = ansible.inventory()

    assert run.rc == 0, run.output
    output = run.output[run.output.index("{\n") :]
    assert json.loads(output)["gpu_hosts"]["hosts"] == ["gpu-01"]
    assert variables(output, "gpu-01")["muster_site_addresses"] == ["10.0.0.7", *["192.0.2.1"] * 11]
    assert "gpu-11" in run.output.split("{\n")[0], "which one is left out is said"

    snapshot = tmp_path / "snapshot.json"
    snapshot.write_text(json.dumps(api._inventory()))
    job = ansible.inventory(MUSTER_INVENTORY_SNAPSHOT=str(snapshot))
    assert job.rc != 0 and "gpu-10" in job.output, "all hosts of a job were meant"


def test_a_job_reads_its_snapshot_and_not_the_network(api: FakeApi, ansible: Ansible, tmp_path: Path) -> None:
    api.add_host("gpu-01")
    snapshot = tmp_path / "snapshot.json"
    snapshot.write_text(json.dumps(api._inventory()))

    run = ansible.inventory(MUSTER_INVENTORY_SNAPSHOT=str(snapshot), MUSTER_API_KEY="")

    assert run.rc == 0, run.output
    assert variables(run.output, "gpu-01")["ansible_host"] == "192.0.2.1"
    assert api.requests == []


def test_another_version_of_the_api_is_said(api: FakeApi, ansible: Ansible, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.json"
    snapshot.write_text(json.dumps(api._inventory() | {"version": 2}))

    run = ansible.inventory(MUSTER_INVENTORY_SNAPSHOT=str(snapshot))

    assert run.rc != 0
    assert "not a version 1 inventory" in run.output


@pytest.mark.parametrize("playbook", ["provision", "deploy_node", "distribute_models", "verify", "drain", "site"])
def test_a_play_over_no_gpu_host_is_red(ansible: Ansible, tmp_path: Path, playbook: str) -> None:
    inventory = tmp_path / "static.yml"
    inventory.write_text(yaml.safe_dump({"routers": {"hosts": {"edge": {"ansible_connection": "local"}}}}))

    run = ansible.run("ansible-playbook", "-i", str(inventory), f"playbooks/{playbook}.yml")

    assert run.rc != 0
    assert "No host of the group gpu_hosts is selected" in " ".join(run.output.split())


@pytest.mark.parametrize("limit", ["edge", "nobody"])
def test_a_limit_that_leaves_no_gpu_host_is_red(ansible: Ansible, tmp_path: Path, limit: str) -> None:
    inventory = tmp_path / "static.yml"
    groups = {"gpu_hosts": {"hosts": {"gpu-01": {}}}, "routers": {"hosts": {"edge": {}}}}
    inventory.write_text(yaml.safe_dump(groups))

    run = ansible.run("ansible-playbook", "-i", str(inventory), "playbooks/verify.yml", "--limit", limit)

    assert run.rc != 0


def test_the_static_example_is_an_inventory(ansible: Ansible) -> None:
    run = ansible.run("ansible-inventory", "-i", "inventory/example.yml", "--list")

    assert run.rc == 0, run.output
    assert json.loads(run.output)["gpu_hosts"]["hosts"] == ["gpu-01", "gpu-02"]
