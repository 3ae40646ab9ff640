"""The action plugins, in real runs against a control API and a router that speak the contract."""

from pathlib import Path
from typing import Any

import pytest

from tests.ansible.fake_api import KEY, MODEL, FakeApi, model
from tests.ansible.runs import Ansible


def node_task(state: str, host: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    return {"muster_node": {"state": state, "host_id": host["id"], **arguments}}


class TestRegistered:
    def test_a_ticket_is_asked_for_only_without_a_valid_registration(self, api: FakeApi, ansible: Ansible) -> None:
        bare, running, reinstalled = (api.add_host(name) for name in ("bare", "running", "reinstalled"))
        node = api.add_node(running)
        api.add_node(reinstalled)

        run, (first, second, third) = ansible.tasks(
            node_task("registered", bare),
            node_task("registered", running, node_id=node["id"]),
            node_task("registered", reinstalled, node_id=""),
        )

        assert first["changed"]
        assert api.tickets[first["ticket"]] == bare["id"]
        assert (second["changed"], second["ticket"]) == (False, None)
        assert api.tickets[third["ticket"]] == reinstalled["id"]
        assert all(ticket not in run.output for ticket in api.tickets)

    def test_check_mode_asks_for_none(self, api: FakeApi, ansible: Ansible) -> None:
        run, (result,) = ansible.tasks(node_task("registered", api.add_host("bare")), arguments=("--check", "--diff"))

        assert result["changed"]
        assert "would ask for an enrolment ticket" in run.output
        assert api.tickets == {}

    def test_a_transient_error_is_tried_again(self, api: FakeApi, ansible: Ansible) -> None:
        host = api.add_host("bare")
        api.unavailable = 2

        _, (result,) = ansible.tasks(node_task("registered", host))

        assert result["ticket"] in api.tickets

    def test_the_token_of_a_job_comes_from_its_file(self, api: FakeApi, ansible: Ansible, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(KEY + "\n")

        _, (result,) = ansible.tasks(
            node_task("registered", api.add_host("bare")), MUSTER_TOKEN_FILE=str(tmp_path / "token"), MUSTER_API_KEY="wrong"
        )

        assert result["ticket"] in api.tickets

    @pytest.mark.parametrize(
        ("environment", "reason"),
        [
            ({"MUSTER_API_KEY": "wrong"}, "answered 401: this key is not known"),
            ({"MUSTER_API_KEY": ""}, "set MUSTER_API_KEY or MUSTER_TOKEN_FILE"),
            ({"MUSTER_API_URL": ""}, "set MUSTER_API_URL or muster_api_url"),
        ],
    )
    def test_what_is_missing_is_said(self, api: FakeApi, ansible: Ansible, environment: dict[str, str], reason: str) -> None:
        _, (result,) = ansible.tasks(node_task("registered", api.add_host("bare")), **environment)

        assert result["failed"]
        assert reason in result["msg"]


class TestDrain:
    def test_drains_and_resumes_once(self, api: FakeApi, ansible: Ansible) -> None:
        host = api.add_host("gpu-01")
        node = api.add_node(host)

        _, (drained, again, resumed, open_already) = ansible.tasks(
            node_task("drained", host, reason="new fans"),
            node_task("drained", host),
            node_task("resumed", host),
            node_task("resumed", host),
        )

        assert [one["changed"] for one in (drained, again, resumed, open_already)] == [True, False, True, False]
        assert drained["diff"] == {"before": "online\n", "after": "drained\n"}
        assert node["admission"] == "open"

    def test_the_hold_of_an_operator_stays(self, api: FakeApi, ansible: Ansible) -> None:
        host = api.add_host("gpu-01")
        operators = {"holder": "user:ops", "reason": "smells of smoke"}
        node = api.add_node(host, state="drained", admission="drained", holds=[operators])

        _, (drained, resumed, again) = ansible.tasks(
            node_task("drained", host), node_task("resumed", host), node_task("resumed", host)
        )

        assert [one["changed"] for one in (drained, resumed, again)] == [True, True, False]
        assert again["msg"] == "gpu-01 is drained, held by user:ops"
        assert (node["holds"], node["admission"]) == ([operators], "drained")

    def test_check_mode_says_what_it_would_do(self, api: FakeApi, ansible: Ansible) -> None:
        host = api.add_host("gpu-01")
        node = api.add_node(host)

        run, (result,) = ansible.tasks(node_task("drained", host), arguments=("--check",))

        assert result["changed"]
        assert "would drain gpu-01" in run.output
        assert node["admission"] == "open"

    def test_requests_that_do_not_end_fail_the_task(self, api: FakeApi, ansible: Ansible) -> None:
        host = api.add_host("gpu-01")
        api.add_node(host)
        api.in_flight = 1

        _, (result,) = ansible.tasks(node_task("drained", host, timeout_s=1))

        assert result["failed"]
        assert result["msg"] == "gpu-01 still has requests in flight after 1 s"

    def test_a_host_without_node_has_nothing_to_drain(self, api: FakeApi, ansible: Ansible) -> None:
        _, (result,) = ansible.tasks(node_task("drained", api.add_host("bare")))

        assert result["changed"] is False


class TestReady:
    def test_is_ready_when_all_is_loaded(self, api: FakeApi, ansible: Ansible) -> None:
        online, held = api.add_host("online"), api.add_host("held")
        api.add_node(online)
        api.add_node(held, state="drained", admission="drained")

        _, results = ansible.tasks(node_task("ready", online), node_task("ready", held))

        assert [result["models"][0]["id"] for result in results] == [MODEL, MODEL]

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            (
                {"models": [model(state="failed", error="is\x1b[2J\u202e\nwrong")]},
                f"{MODEL} is failed: is" r"\x1b[2J\u202e\nwrong",
            ),
            ({"admission": "pending", "state": "pending"}, "it waits for approval"),
            ({"manifest_revision": 2}, "the node is not ready"),
            ({"state": "offline"}, "gpu-01 is offline"),
        ],
    )
    def test_fails_with_what_the_node_says(self, api: FakeApi, ansible: Ansible, fields: dict[str, Any], reason: str) -> None:
        host = api.add_host("gpu-01")
        api.add_node(host, **{"state": "registering", "ready_models": {"loaded": 0, "total": 1}} | fields)

        _, (result,) = ansible.tasks(node_task("ready", host, timeout_s=1))

        assert result["failed"]
        assert reason in result["msg"]

    def test_what_the_process_before_reported_does_not_count(self, api: FakeApi, ansible: Ansible) -> None:
        host = api.add_host("gpu-01")
        api.add_node(host, instance_id="second")

        _, (stale, fresh) = ansible.tasks(
            node_task("ready", host, instance_id="third", timeout_s=1), node_task("ready", host, instance_id="second")
        )

        assert stale["msg"] == "gpu-01 was started, but has not reported within 1 s"
        assert fresh["models"][0]["id"] == MODEL

    def test_fails_when_no_node_registers(self, api: FakeApi, ansible: Ansible) -> None:
        _, (result,) = ansible.tasks(node_task("ready", api.add_host("bare"), timeout_s=1))

        assert "no node has registered within 1 s" in result["msg"]


class TestCompletion:
    def test_returns_the_answer_of_the_node(self, api: FakeApi, ansible: Ansible) -> None:
        host = api.add_host("gpu-01")
        node = api.add_node(host)

        _, (result,) = ansible.tasks({"muster_completion": {"host_id": host["id"]}})

        expected = {"answer": "Hello.", "model": MODEL, "node_id": node["id"], "device": "cpu", "changed": False}
        assert expected.items() <= result.items()
        assert result["seconds"] >= 0

    def test_a_model_for_embeddings_is_asked_for_a_vector_where_there_is_no_other(self, api: FakeApi, ansible: Ansible) -> None:
        both, only = api.add_host("gpu-01"), api.add_host("gpu-02")
        api.add_node(both, models=[model(id="embed:tiny"), model()])
        api.add_node(only, models=[model(id="embed:tiny")])
        api.capabilities = {"embed:tiny": ["embeddings"], MODEL: ["chat"]}

        _, (chat, vector) = ansible.tasks(
            {"muster_completion": {"host_id": both["id"]}}, {"muster_completion": {"host_id": only["id"]}}
        )

        assert (chat["model"], chat["answer"]) == (MODEL, "Hello.")
        assert (vector["model"], vector["answer"]) == ("embed:tiny", "a vector of 64 numbers")

    def test_the_name_of_the_node_is_as_good_as_its_id(self, api: FakeApi, ansible: Ansible) -> None:
        host = api.add_host("gpu-01")
        api.add_node(host)
        api.answering_node = "gpu-01"

        _, (result,) = ansible.tasks({"muster_completion": {"host_id": host["id"]}})

        assert result["answer"] == "Hello."

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [({"answer": " "}, "the router's answer is empty"), ({"answering_node": "gpu-02"}, "but gpu-02 answered")],
    )
    def test_refuses_no_answer_and_the_answer_of_another(
        self, api: FakeApi, ansible: Ansible, fault: dict[str, str], reason: str
    ) -> None:
        host = api.add_host("gpu-01")
        api.add_node(host)
        vars(api).update(fault)

        _, (result,) = ansible.tasks({"muster_completion": {"host_id": host["id"]}})

        assert result["failed"]
        assert reason in result["msg"]

    def test_a_gpu_host_must_not_serve_from_the_cpu_unless_told(self, api: FakeApi, ansible: Ansible) -> None:
        host = api.add_host("gpu-01")
        api.add_node(host, hardware={"gpus": [{"index": 0, "name": "NVIDIA L4"}]})

        _, (refused, allowed) = ansible.tasks(
            {"muster_completion": {"host_id": host["id"]}}, {"muster_completion": {"host_id": host["id"], "allow_cpu": True}}
        )

        assert f"serves {MODEL} from the CPU" in refused["msg"]
        assert allowed["answer"] == "Hello."

    def test_a_node_without_ready_model_is_named_with_its_states(self, api: FakeApi, ansible: Ansible) -> None:
        host = api.add_host("gpu-01")
        api.add_node(host, models=[model(state="downloading")])

        _, (result,) = ansible.tasks({"muster_completion": {"host_id": host["id"]}})

        assert result["msg"].endswith(f"gpu-01 has no ready model; its models: {MODEL} downloading")


class TestModels:
    def test_orders_once_for_all_nodes_and_waits(self, api: FakeApi, ansible: Ansible) -> None:
        hosts = [api.add_host(name) for name in ("gpu-01", "gpu-02")]
        nodes = [api.add_node(host) for host in hosts]

        _, (result,) = ansible.tasks({"muster_models": {"models": [MODEL], "host_ids": [host["id"] for host in hosts]}})

        assert result["changed"]
        assert sorted(result["task_ids"]) == sorted(api.tasks)
        assert [order["node_ids"] for order in api.orders] == [[node["id"] for node in nodes]]

    def test_without_models_it_only_waits_for_what_is_assigned(self, api: FakeApi, ansible: Ansible) -> None:
        host = api.add_host("gpu-01")
        api.add_node(host)

        _, (result,) = ansible.tasks({"muster_models": {"host_ids": [host["id"]]}})

        assert result["changed"] is False
        assert api.orders == []

    def test_fails_with_the_error_of_the_task(self, api: FakeApi, ansible: Ansible) -> None:
        host = api.add_host("gpu-01")
        api.add_node(host)
        api.task_error = "needs 12 GB, 3 GB are free"

        _, (result,) = ansible.tasks({"muster_models": {"models": [MODEL], "host_ids": [host["id"]]}})

        assert result["failed"]
        assert "needs 12 GB, 3 GB are free" in result["msg"]

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"models": [model(state="failed", error="hub is down")]}, f"gpu-01: {MODEL} failed: hub is down"),
            ({"manifest_revision": 2}, "not taken over within 1 s: gpu-01"),
            ({"models": [model(state="loading", progress=1.0)]}, f"not finished within 1 s: gpu-01 online: {MODEL} loading"),
        ],
    )
    def test_fails_with_the_state_of_the_node(
        self, api: FakeApi, ansible: Ansible, fields: dict[str, Any], reason: str
    ) -> None:
        host = api.add_host("gpu-01")
        api.add_node(host, **{"ready_models": {"loaded": 0, "total": 1}} | fields)

        _, (result,) = ansible.tasks({"muster_models": {"host_ids": [host["id"]], "timeout_s": 1, "apply_timeout_s": 1}})

        assert result["failed"]
        assert reason in result["msg"]

    def test_check_mode_says_what_would_be_downloaded(self, api: FakeApi, ansible: Ansible) -> None:
        bare, behind = api.add_host("bare"), api.add_host("behind")
        api.add_node(behind, models=[model(state="absent")])

        run, (result,) = ansible.tasks(
            {"muster_models": {"models": [MODEL], "host_ids": [bare["id"], behind["id"]]}}, arguments=("--check",)
        )

        assert f"behind: would download {MODEL} (1000 bytes)" in run.output
        assert f"{bare['id']}: would order models once its node has registered" in " ".join(run.output.split())
        assert (result["changed"], result["bytes"], api.orders) == (True, 1000, [])


def test_what_a_host_says_its_node_is_called_is_an_id_and_no_path(api: FakeApi, ansible: Ansible) -> None:
    _, (result,) = ansible.tasks({"muster_models": {"node_ids": ["../jobs?x=1"]}})

    assert "'../jobs?x=1' is no id" in result["msg"]
    assert api.requests == []
