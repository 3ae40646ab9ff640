"""The callback plugin: a run from a shell is a job of the control API, and never fails because of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.fake_api import FakeApi
from tests.ansible.runs import Ansible, Run


@pytest.fixture
def host(api: FakeApi) -> dict[str, Any]:
    return api.add_host("gpu-01", connection="local", become=False)


def play(ansible: Ansible, tmp_path: Path, *tasks: dict[str, Any], arguments: tuple[str, ...] = (), **environment: str) -> Run:
    playbook = tmp_path / "tiny.yml"
    playbook.write_text(json.dumps([{"name": "Tiny", "hosts": "gpu_hosts", "gather_facts": False, "tasks": list(tasks)}]))
    return ansible.playbook(str(playbook), *arguments, **{"ANSIBLE_CALLBACKS_ENABLED": "muster"} | environment)


def said(text: str) -> dict[str, Any]:
    return {"name": f"Say {text}", "ansible.builtin.debug": {"msg": text}, "changed_when": True}


def test_a_run_from_a_shell_is_a_job_with_its_events(
    api: FakeApi, ansible: Ansible, tmp_path: Path, host: dict[str, Any]
) -> None:
    failing = {"name": "Break", "ansible.builtin.fail": {"msg": "no fan"}}

    run = play(ansible, tmp_path, said("hello"), failing)

    assert run.rc == 2
    [job] = api.jobs.values()
    assert job["wanted"] == {"playbook": "tiny.yml", "hosts": [host["id"]], "check": False, "external": True}
    assert sorted(job["events"]) == list(range(1, job["end"]["events"] + 1))
    results = [(one["host"], one["task"], one["status"]) for one in job["events"].values() if one.get("status")]
    assert results == [("gpu-01", "Say hello", "changed"), ("gpu-01", "Break", "failed")]
    assert any("no fan" in one["stdout"] for one in job["events"].values())
    recap = {"ok": 1, "changed": 1, "failed": 1, "unreachable": 0, "skipped": 0}
    assert job["end"] | {"events": 0} == {"rc": 2, "recap": {"gpu-01": recap}, "events": 0}


def test_events_arrive_although_answers_get_lost(api: FakeApi, ansible: Ansible, tmp_path: Path, host: dict[str, Any]) -> None:
    api.posts_lost = 2

    run = play(ansible, tmp_path, said("hello"), said("again"), arguments=("--check",))

    [job] = api.jobs.values()
    assert run.rc == 0, run.output
    assert job["wanted"]["check"]
    assert sorted(job["events"]) == list(range(1, job["end"]["events"] + 1))
    assert "did not get all" not in run.output


def test_hosts_that_are_busy_are_a_warning_that_names_the_holder(
    api: FakeApi, ansible: Ansible, tmp_path: Path, host: dict[str, Any]
) -> None:
    api.busy = True

    run = play(ansible, tmp_path, said("hello"))

    assert run.rc == 0, run.output
    assert "another job has these hosts" in run.output
    assert "job 17 runs site.yml" in " ".join(run.output.split())


def test_it_is_silent_under_the_api_and_when_it_is_not_asked_for(
    api: FakeApi, ansible: Ansible, tmp_path: Path, host: dict[str, Any]
) -> None:
    under_api = play(ansible, tmp_path, said("hello"), MUSTER_JOB_ID="0199")
    not_enabled = play(ansible, tmp_path, said("hello"), ANSIBLE_CALLBACKS_ENABLED="")

    assert (under_api.rc, not_enabled.rc) == (0, 0)
    assert api.jobs == {}


def test_what_no_log_hides_is_not_posted(api: FakeApi, ansible: Ansible, tmp_path: Path, host: dict[str, Any]) -> None:
    secret = {"name": "Secret", "ansible.builtin.fail": {"msg": "hf_not-to-be-seen"}, "no_log": True}

    play(ansible, tmp_path, secret)

    [job] = api.jobs.values()
    assert any(one["task"] == "Secret" for one in job["events"].values())
    assert "hf_not-to-be-seen" not in json.dumps(job["events"])
