"""Alerts about models on their way, as an operator reads them."""

from typing import Any

import pytest

from tests.distribution.fleet import new_model, new_node, order, report
from tests.running import Api

pytestmark = pytest.mark.anyio


async def alerts(api: Api) -> list[dict[str, Any]]:
    """Return the alerts as the API lists them."""
    found: list[dict[str, Any]] = (await api.http.get("/v0/alerts")).json()["items"]
    return found


async def test_a_model_that_fits_nowhere_until_a_node_has_room(api: Api) -> None:
    await new_model(api, "a")
    await new_node(api, "small", memory_bytes=1000)
    await order(api, "a:1b")

    (alert,) = await alerts(api)
    assert (alert["kind"], alert["subject"]["name"]) == ("model.unschedulable", "a:1b")
    assert "512.0 MiB" in alert["message"]

    await new_node(api, "large")
    await order(api, "a:1b", target="auto")
    assert await alerts(api) == []


async def test_a_download_that_failed_until_it_is_ordered_again(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    task_id = (await order(api, "a:1b"))["task_ids"][0]
    await node.beat(report("a:1b", 1, "failed", error="every source failed"))
    assert [alert["kind"] for alert in await alerts(api)] == ["node.degraded"], "the node says it itself"

    node.models = []
    await node.beat()
    (alert,) = await alerts(api)
    assert (alert["kind"], alert["subject"]["id"]) == ("task.failed", task_id)
    assert "a:1b did not reach gpu-01: every source failed" in alert["message"]
    assert "muster models push a:1b --nodes gpu-01" in alert["hint"]

    await order(api, "a:1b")
    assert await alerts(api) == []
