"""The lock on the host: who gets it, who is refused, and what a refused run is told."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.runs import Ansible


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "job.lock"


def lock(path: Path, kind: str, number: int, state: str = "held", **arguments: Any) -> dict[str, Any]:
    named = {"state": state, "kind": kind, "number": number, "holder": f"{kind} {number}", "path": str(path)}
    return {"muster_lock": named | arguments}


def test_a_later_job_takes_the_lock_over_and_the_earlier_one_cannot_come_back(ansible: Ansible, path: Path) -> None:
    _, (first, again, later, earlier, released, still) = ansible.tasks(
        lock(path, "job", 7),
        lock(path, "job", 7),
        lock(path, "job", 8),
        lock(path, "job", 7),
        lock(path, "job", 8, "released"),
        lock(path, "job", 7),
    )

    assert [one["holder"] for one in (first, again, later, released)] == ["job 7", "job 7", "job 8", ""]
    assert earlier["failed"]
    assert earlier["msg"] == "job 7 (number 7) is out of date: number 8 has had this host since"
    assert still["failed"]
    assert not any(one["changed"] for one in (first, later, released))


def test_a_run_from_a_shell_waits_for_nobody_and_takes_nothing_away(ansible: Ansible, path: Path) -> None:
    _, (job, shell, foreign, released, free, second) = ansible.tasks(
        lock(path, "job", 7),
        lock(path, "shell", 1000),
        lock(path, "shell", 1000, "released"),
        lock(path, "job", 7, "released"),
        lock(path, "shell", 1000),
        lock(path, "job", 8),
    )

    assert job["holder"] == foreign["holder"] == "job 7"
    assert "this host is being changed by job 7" in shell["msg"]
    assert (released["holder"], free["holder"]) == ("", "shell 1000")
    assert "this host is being changed by shell 1000" in second["msg"]


def test_a_lock_ends_by_itself(ansible: Ansible, path: Path) -> None:
    path.parent.mkdir()
    left = {"numbers": {"shell": 5}, "holder": "shell 5", "kind": "shell", "expires_at": time.time() - 1}
    path.write_text(json.dumps(left))

    _, (taken,) = ansible.tasks(lock(path, "shell", 6))

    assert taken["holder"] == "shell 6"


def test_the_lock_of_a_run_that_is_known_to_be_over_can_be_broken(ansible: Ansible, path: Path) -> None:
    _, (_, refused, taken, late) = ansible.tasks(
        lock(path, "shell", 5),
        lock(path, "shell", 6),
        lock(path, "shell", 6, broken=True),
        lock(path, "shell", 5, broken=True),
    )

    assert "muster_break_lock=true" in refused["msg"]
    assert taken["holder"] == "shell 6"
    assert "out of date" in late["msg"]


def test_check_mode_leaves_it_alone(ansible: Ansible, path: Path) -> None:
    _, (result,) = ansible.tasks(lock(path, "job", 7), arguments=("--check",))

    assert not result["changed"]
    assert not path.exists()
