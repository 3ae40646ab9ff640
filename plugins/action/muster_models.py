# SPDX-License-Identifier: GPL-3.0-or-later
# Imports ansible-core, hence the licence of this file.
"""Action `muster_models`: order models and follow them. Documented in plugins/modules/muster_models.py."""

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader
from ansible.utils.display import Display

MusterAction: Any = action_loader.get("muster_base", class_only=True)
OPEN_TASKS = frozenset({"pending", "in_progress"})
REPORT_EVERY = 10  # polls between two lines of progress
display = Display()


class ActionModule(MusterAction):
    """One order for all nodes of a play, followed by one loop on the controller."""

    ARGUMENTS = {
        "models": {"type": "list", "elements": "str", "default": []},
        "host_ids": {"type": "list", "elements": "str", "default": []},
        "node_ids": {"type": "list", "elements": "str", "default": []},
        "if_installed": {"type": "str", "default": "skip", "choices": ["skip", "redownload"]},
        "retry_when_online": {"type": "bool", "default": False},
        "wait": {"type": "bool", "default": True},
        "apply_timeout_s": {"type": "int", "default": 60},
        "timeout_s": {"type": "int", "default": 7200},
    }

    def act(self, api: Any, args: dict[str, Any]) -> dict[str, Any]:
        """Order, then wait until the nodes took their manifests over and, if asked, until all has ended."""
        if self._task.check_mode:
            return self._look_ahead(api, args)
        node_ids = self._await_nodes(api, args)
        ordered = [self._order(api, model, node_ids, args) for model in args["models"]]
        task_ids = [task for order in ordered for task in order["task_ids"]]
        result = {
            "changed": bool(task_ids),
            "task_ids": task_ids,
            "skipped_nodes": [skipped for order in ordered for skipped in order["skipped"]],
            "warnings": [warning for order in ordered for warning in order["warnings"]],
        }
        self._await_applied(api, node_ids, args["apply_timeout_s"])
        if args["wait"]:
            self._await_end(api, node_ids, task_ids, args["timeout_s"])
        return result | {"msg": "; ".join(_say(self._nodes(api, node_ids)))}

    def _nodes(self, api: Any, node_ids: list[str]) -> list[dict[str, Any]]:
        return [api.get(f"/v0/nodes/{node_id}") for node_id in node_ids]

    def _found(self, api: Any, args: dict[str, Any]) -> dict[str, dict[str, Any] | None]:
        """Map each host or node asked for to its node, or to None while there is none."""
        wanted = [{"host_id": host_id} for host_id in args["host_ids"]]
        wanted += [{"node_id": node_id} for node_id in args["node_ids"]]
        return {next(iter(one.values())): self.find_node(api, one) for one in wanted}

    def _await_nodes(self, api: Any, args: dict[str, Any]) -> list[str]:
        """Return the ids of the nodes; one that was just started needs a moment to register."""
        found: dict[str, dict[str, Any] | None] = {}

        def probe() -> bool:
            found.update(self._found(api, args))
            return None not in found.values()

        self.poll(probe, args["apply_timeout_s"])
        if missing := [key for key, node in found.items() if node is None]:
            raise AnsibleActionFail(f"no node has registered for: {', '.join(missing)}")
        return [node["id"] for node in found.values() if node]

    def _order(self, api: Any, model: str, node_ids: list[str], args: dict[str, Any]) -> dict[str, Any]:
        return api.post(
            "/v0/models/distribute",
            {
                "model": model,
                "target": "specific",
                "node_ids": node_ids,
                "if_installed": args["if_installed"],
                "retry_when_online": args["retry_when_online"],
            },
        )

    def _await_applied(self, api: Any, node_ids: list[str], timeout_s: int) -> None:
        behind: list[dict[str, Any]] = []

        def probe() -> bool:
            behind[:] = [node for node in self._nodes(api, node_ids) if not _applied(node)]
            return not behind

        if not self.poll(probe, timeout_s):
            raise AnsibleActionFail(f"not taken over within {timeout_s} s: {'; '.join(_say(behind))}")

    def _await_end(self, api: Any, node_ids: list[str], task_ids: list[str], timeout_s: int) -> None:
        """Follow tasks and nodes to the end; fail with the nodes' own error texts."""
        nodes: list[dict[str, Any]] = []
        polls = 0

        def probe() -> bool:
            nonlocal polls
            polls += 1
            nodes[:] = self._nodes(api, node_ids)
            if polls % REPORT_EVERY == 0:
                display.display("; ".join(_say(nodes)))
            return not self._open_tasks(api, task_ids) and all(_settled(node) for node in nodes)

        done = self.poll(probe, timeout_s)
        if failed := [line for node in nodes for line in _failures(node)]:
            raise AnsibleActionFail("; ".join(failed))
        if not done:
            raise AnsibleActionFail(f"not finished within {timeout_s} s: {'; '.join(_say(nodes))}")

    def _open_tasks(self, api: Any, task_ids: list[str]) -> bool:
        """Say whether a task still runs; fail when one ended in another way than by success."""
        if not task_ids:
            return False
        tasks = api.get(f"/v0/tasks?ids={','.join(task_ids)}")["items"]
        ended = [task for task in tasks if task["status"] in ("failed", "cancelled")]
        if ended:
            lines = [f"{task['model_id']} on node {task['node_id']} {task['status']}: {task['error']}" for task in ended]
            raise AnsibleActionFail("; ".join(lines))
        return any(task["status"] in OPEN_TASKS for task in tasks)

    def _look_ahead(self, api: Any, args: dict[str, Any]) -> dict[str, Any]:
        """Say what would be downloaded, as far as the manifests of today tell."""
        lines, total_bytes = [], 0
        for key, node in self._found(api, args).items():
            if node is None:
                lines.append(f"{key}: would order models once its node has registered")
                continue
            bytes_by_model = self._missing(api, node)
            total_bytes += sum(bytes_by_model.values())
            lines += [f"{node['name']}: would download {model} ({size} bytes)" for model, size in bytes_by_model.items()]
            known = {model["id"] for model in node["models"]} | set(bytes_by_model)
            lines += [f"{node['name']}: would order {model}" for model in args["models"] if model not in known]
        return self.foresee(bool(lines), lines or ["every node has what it shall have"]) | {"bytes": total_bytes}

    def _missing(self, api: Any, node: dict[str, Any]) -> dict[str, int]:
        """Map each model of the manifest that the node does not hold yet to its bytes."""
        held = {model["id"] for model in node["models"] if model["state"] in ("installed", "loading", "ready")}
        manifest = api.get(f"/v0/nodes/{node['id']}/manifest")
        return {
            model["id"]: sum(artifact["size"] for artifact in model["artifacts"])
            for model in manifest["models"]
            if model["id"] not in held
        }


def _applied(node: dict[str, Any]) -> bool:
    return node["applied_revision"] == node["manifest_revision"]


def _settled(node: dict[str, Any]) -> bool:
    """Every resident model of the manifest is loaded or has failed."""
    failed = sum(model["state"] == "failed" for model in node["models"])
    return _applied(node) and node["ready_models"]["loaded"] + failed >= node["ready_models"]["total"]


def _failures(node: dict[str, Any]) -> list[str]:
    return [f"{node['name']}: {model['id']} failed: {model['error']}" for model in node["models"] if model["state"] == "failed"]


def _say(nodes: list[dict[str, Any]]) -> list[str]:
    """One line for each node: its state and how far each model is."""
    return [
        f"{node['name']} {node['state']}: "
        + (", ".join(f"{model['id']} {model['state']} {model['progress']:.0%}" for model in node["models"]) or "no model")
        for node in nodes
    ]
