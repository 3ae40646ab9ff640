"""Jobs of a fleet to look at, with their output."""

from typing import Any

from control_api.client.schemas import ChangeOut, HostOut, JobEventOut, JobOut
from tests.dashboards.fleet_data import ago, identifier


def job(number: int, playbook: str, status: str, hosts: list[HostOut], **fields: Any) -> JobOut:
    defaults: dict[str, Any] = {
        "id": identifier(300 + number),
        "playbook": playbook,
        "hosts": [{"id": h.id, "name": h.name} for h in hosts],
        "extra_vars": {},
        "check": False,
        "external": False,
        "status": status,
        "reason": None,
        "attempt": 1,
        "rc": 0 if status == "successful" else None,
        "priority": 0,
        "timeout_s": 7200,
        "retry_of": None,
        "requested_by": "user:alice",
        "created_at": ago(900 * number),
        "started_at": ago(900 * number - 2),
        "finished_at": None if status in ("queued", "running") else ago(900 * number - 184),
        "cancel_requested_at": None,
        "recap": {h.name: {"ok": 41, "changed": 0, "failed": 0, "unreachable": 0, "skipped": 6} for h in hosts},
        "ansible_version": "2.21.5",
        "events": {"stored": 12, "expected": None if status == "running" else 12},
    }
    return JobOut.model_validate(defaults | fields)


def event(number: int, kind: str, **fields: Any) -> JobEventOut:
    defaults: dict[str, Any] = {
        "id": number,
        "attempt": 1,
        "counter": number,
        "event": kind,
        "at": ago(60 - number),
        "host": None,
        "play": None,
        "role": None,
        "task": None,
        "status": None,
        "duration_s": None,
        "stdout": "",
        "diff": None,
    }
    return JobEventOut.model_validate(defaults | fields)


def run_output(hosts: list[str], *, failing: str | None = None) -> list[JobEventOut]:
    """Output of a short run; ``failing``: the host whose last task fails."""
    events = [event(1, "playbook_on_play_start", play="Provision GPU hosts", stdout="PLAY [Provision GPU hosts] " + "*" * 52)]
    tasks = [
        ("gpu_host", "Assert that the host can be a GPU host", "ok"),
        ("gpu_host", "Make the service user", "changed"),
        ("node_service", "Copy the wheelhouse", "changed"),
        ("node_service", "Render the configuration", "changed"),
        ("node_service", "Start the node service", "ok"),
    ]
    for role, name, status in tasks:
        events.append(
            event(len(events) + 1, "playbook_on_task_start", role=role, task=name, stdout=f"TASK [{role} : {name}] " + "*" * 40)
        )
        for host_name in hosts:
            last = name == tasks[-1][1]
            shown = "failed" if last and host_name == failing else status
            text = f"{shown}: [{host_name}]"
            if shown == "failed":
                text = (
                    f'fatal: [{host_name}]: FAILED! => {{"msg": "The node service did not answer on port 8090 within 60 s."}}'
                )
            diff = "--- before\n+++ after\n@@ -1 +1 @@\n-context: 2048\n+context: 4096\n" if name.startswith("Render") else None
            events.append(
                event(
                    len(events) + 1,
                    f"runner_on_{shown}",
                    host=host_name,
                    role=role,
                    task=name,
                    status=shown,
                    duration_s=1.4,
                    stdout=text,
                    diff=diff,
                )
            )
    return events


def changes(host_name: str) -> list[ChangeOut]:
    """What a job changed on a host."""
    diff = "--- before\n+++ after\n@@ -1 +1 @@\n-context: 2048\n+context: 4096\n"
    where = {"at": ago(50), "host": host_name, "play": "Provision GPU hosts"}
    return [
        ChangeOut.model_validate(where | {"id": 1, "role": "gpu_host", "task": "Make the service user", "diff": None}),
        ChangeOut.model_validate(where | {"id": 2, "role": "node_service", "task": "Render the configuration", "diff": diff}),
    ]


def slowest(host_name: str) -> list[dict[str, Any]]:
    """The slowest tasks of a job."""
    return [
        {"role": "node_service", "task": "Start the node service", "host": host_name, "duration_s": 60.4},
        {"role": "node_service", "task": "Copy the wheelhouse", "host": host_name, "duration_s": 11.2},
    ]
