"""Alerts as the control API lists them."""

from typing import Any

from control_api.client.schemas import AlertKind, AlertOut
from tests.dashboards import fleet_data as data

# Where the identifiers of each type of subject begin in a fleet to look at.
_FIRST = {"node": 100, "host": 0, "job": 300, "task": 500, "model": 600, "worker": 0}


def alert(kind: AlertKind, number: int, name: str, **fields: Any) -> AlertOut:
    """Return an alert about the thing of this number."""
    of = kind.partition(".")[0]
    subject = {"type": of, "id": data.identifier(_FIRST[of] + number), "name": name}
    defaults: dict[str, Any] = {
        "id": f"{kind}:{subject['id']}",
        "kind": kind,
        "severity": kind.severity,
        "subject": subject,
        "since": data.ago(600),
        "message": f"{name} is in trouble.",
        "hint": "Look at it.",
    }
    return AlertOut.model_validate(defaults | fields)


def of_the_rich_fleet() -> list[AlertOut]:
    """What is wrong in the fleet to look at, as the API would say it."""
    damaged = "smollm2:135m: The file is damaged: sha256 differs from the manifest."
    return [
        alert(
            AlertKind.HOST_FAILED,
            5,
            "gpu-05",
            since=data.ago(1616),
            message="The last job left host gpu-05 unfinished. site.yml: gpu-05: The node service did not answer on port 8090.",
            hint="When the cause is gone: muster jobs run site.yml gpu-05 --watch.",
        ),
        alert(
            AlertKind.NODE_OFFLINE,
            5,
            "gpu-05",
            since=data.ago(412),
            message=f"Node gpu-05 has sent no heartbeat since {data.ago(412):%Y-%m-%d %H:%M:%S} UTC.",
            hint="Look at its machine and its network; muster jobs run repair.yml gpu-05 --watch.",
        ),
        alert(
            AlertKind.NODE_DEGRADED,
            2,
            "gpu-02",
            message=f"Node gpu-02 is without 1 of its models. {damaged}",
            hint="muster nodes models gpu-02. When the cause is gone: muster models verify MODEL --nodes gpu-02.",
        ),
        alert(
            AlertKind.NODE_PENDING,
            7,
            "gpu-07",
            message="Node gpu-07 registered with a shared token and is not used before somebody lets it in.",
            hint="muster nodes approve gpu-07, or muster nodes delete gpu-07.",
        ),
    ]
