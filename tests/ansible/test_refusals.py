"""What a play says to values that could be more than values, and to folders that are not the role's to remove."""

import sys
from pathlib import Path
from typing import Any

import yaml

from tests.ansible.runs import Ansible, Run

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_host": "127.0.0.1"}


def play(ansible: Ansible, role: str, hosts: dict[str, dict[str, Any]], *arguments: str, part: str = "main.yml") -> Run:
    """Run a role, or a part of it, on this machine under several names, each with variables of its own."""
    inventory, playbook = ansible.directory / "hosts.yml", ansible.directory / "play.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {name: LOCAL | own for name, own in hosts.items()}}}))
    tasks = [{"ansible.builtin.include_role": {"name": role, "tasks_from": part}}]
    playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    return ansible.run("ansible-playbook", "-i", str(inventory), str(playbook), *arguments)


def said(run: Run) -> str:
    return " ".join(run.output.split())


def test_each_value_that_could_be_more_is_named_with_what_it_should_be(ansible: Ansible) -> None:
    hosts = {
        "user": {"node_service_user": "root"},
        "name": {"node_service_name": "../../x"},
        "data": {"node_service_data_dir": "/var/lib/x\nExecStartPre=+/bin/sh -c id"},
        "home": {"node_service_home": "/home/x"},
        "proxy": {"muster_proxy_env": {"LD_PRELOAD": "/tmp/x.so"}},
        "port": {"node_service_port": "8090\nx"},
        "jinja": {"node_service_engine": "{{ '{{' }} 6 * 7007 }}"},
    }

    run = play(ansible, "node_service", hosts, "--check")

    assert run.rc == 2
    for option in ("user", "name", "data_dir", "home", "proxy_env", "port", "engine"):
        assert f"node_service_{option} must be" in said(run), run.output
    assert "a folder below /opt, /srv, /var/lib, /data, /mnt" in said(run)
    assert "42042" not in run.output
    assert run.changed() == dict.fromkeys(hosts, 0)


def test_kernel_settings_are_those_that_the_role_knows(ansible: Ansible) -> None:
    run = play(ansible, "gpu_host", {"one": {"gpu_host_sysctl": {"kernel.core_pattern": "|/bin/sh"}}}, "--check")

    assert run.rc == 2
    assert "gpu_host_sysctl must be a dictionary of kernel settings that the role knows" in said(run)


def test_only_folders_that_the_role_made_are_removed(ansible: Ansible, tmp_path: Path) -> None:
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    removing = {"muster_privileged": False, "node_service_state_dir": str(state), "node_service_remove_files": True}
    hosts: dict[str, dict[str, Any]] = {
        name: removing | {"node_service_name": name} for name in ("ours", "strange", "linked", "outside")
    }
    for folder in (state / "ours", state / "ours" / "data", state / "strange" / "data", elsewhere):
        folder.mkdir(parents=True)
        (folder / "kept").write_text("something")
    for folder in (state / "ours", state / "ours" / "data", elsewhere):
        (folder / ".made-by-muster").write_text("")
    (state / "linked").symlink_to(elsewhere)
    hosts["outside"]["node_service_data_dir"] = f"{state}/../elsewhere"

    run = play(ansible, "node_service", hosts, part="remove.yml")

    assert run.rc == 2
    assert not (state / "ours").exists(), run.output
    assert (elsewhere / "kept").exists()
    assert (state / "strange" / "data" / "kept").exists()
    assert f"{state}/strange, {state}/strange/data: not made by this role" in said(run)
    assert f"{state}/linked: not made by this role, or reached through a link" in said(run)
    assert "node_service_data_dir must be a path below node_service_state_dir" in said(run)
