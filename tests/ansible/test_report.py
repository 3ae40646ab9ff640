"""The files that a pipeline gates on: what failed is a failure in both, and so is a run that touched nothing."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.ansible.fake_api import FakeApi
from tests.ansible.runs import Ansible, Run

SECRET = "not-to-be-seen"


def play(ansible: Ansible, tmp_path: Path, *tasks: dict[str, Any], hosts: str = "gpu_hosts", **environment: str) -> Run:
    playbook = tmp_path / "tiny.yml"
    playbook.write_text(json.dumps([{"name": "Tiny", "hosts": hosts, "gather_facts": False, "tasks": list(tasks)}]))
    files = {"MUSTER_REPORT_JSON": str(tmp_path / "report.json"), "MUSTER_REPORT_JUNIT": str(tmp_path / "report.xml")}
    return ansible.playbook(str(playbook), **{"ANSIBLE_CALLBACKS_ENABLED": "muster_report"} | files | environment)


def report(tmp_path: Path) -> tuple[dict[str, Any], ElementTree.Element]:
    return json.loads((tmp_path / "report.json").read_text()), ElementTree.parse(tmp_path / "report.xml").getroot()


def test_the_reports_say_how_each_task_ended_on_each_host(api: FakeApi, ansible: Ansible, tmp_path: Path) -> None:
    api.add_host("gpu-01", connection="local", become=False)
    api.add_host("gpu-02", address="127.0.0.1", port=1, become=False)
    tasks = [
        {"name": "Look", "ansible.builtin.command": "true", "changed_when": True},
        {"name": "Hide", "ansible.builtin.fail": {"msg": SECRET}, "no_log": True, "ignore_errors": True},
        {"name": "Pass over", "ansible.builtin.debug": {"msg": "x"}, "when": False},
        {"name": "Break", "ansible.builtin.fail": {"msg": "no fan\x1b[0m <&>"}},
    ]

    run = play(ansible, tmp_path, *tasks)

    said, xml = report(tmp_path)
    assert run.rc != 0
    assert (said["playbook"], said["successful"], said["reason"]) == ("tiny.yml", False, "failed on gpu-01, gpu-02")
    ended = {host: [(task["task"], task["status"]) for task in found["tasks"]] for host, found in said["hosts"].items()}
    assert ended["gpu-01"] == [("Look", "changed"), ("Hide", "ok"), ("Pass over", "skipped"), ("Break", "failed")]
    assert ended["gpu-02"] == [("Look", "unreachable")]
    assert (said["hosts"]["gpu-01"]["changed"], said["hosts"]["gpu-02"]["unreachable"]) == (1, 1)
    assert {suite.get("name"): suite.get("failures") for suite in xml} == {"gpu-01": "1", "gpu-02": "1"}
    assert (xml.get("tests"), xml.get("failures"), xml.get("skipped")) == ("5", "2", "1")
    assert r"no fan\x1b[0m <&>" in [failure.text for failure in xml.iter("failure")]
    assert SECRET not in (tmp_path / "report.json").read_text() + (tmp_path / "report.xml").read_text()


def test_a_run_that_went_well_is_green(api: FakeApi, ansible: Ansible, tmp_path: Path) -> None:
    api.add_host("gpu-01", connection="local", become=False)

    run = play(ansible, tmp_path, {"name": "Look", "ansible.builtin.debug": {"msg": "x"}})

    said, xml = report(tmp_path)
    assert run.rc == 0, run.output
    assert (said["successful"], said["reason"], xml.get("tests"), xml.get("failures")) == (True, None, "1", "0")


@pytest.mark.parametrize("hosts", ["nobody", "localhost"])
def test_a_run_that_touched_no_host_is_red(api: FakeApi, ansible: Ansible, tmp_path: Path, hosts: str) -> None:
    api.add_host("gpu-01", connection="local", become=False)
    run = play(ansible, tmp_path, {"name": "Look", "ansible.builtin.debug": {"msg": "x"}}, hosts=hosts)

    said, xml = report(tmp_path)
    assert run.rc == 0, "to Ansible it is a success"
    assert (said["successful"], said["reason"], xml.get("failures")) == (False, "no host was touched", "1")


def test_a_file_that_cannot_be_written_is_a_warning(api: FakeApi, ansible: Ansible, tmp_path: Path) -> None:
    api.add_host("gpu-01", connection="local", become=False)

    run = play(ansible, tmp_path, {"ansible.builtin.debug": {"msg": "x"}}, MUSTER_REPORT_JSON=str(tmp_path / "no" / "where"))

    assert run.rc == 0
    assert "[WARNING]: muster_report: " in run.output
