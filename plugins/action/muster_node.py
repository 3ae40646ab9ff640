# SPDX-License-Identifier: GPL-3.0-or-later
# Imports ansible-core, hence the licence of this file.
"""Action `muster_node`: bring a node into a state. Documented in plugins/modules/muster_node.py."""

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader

MusterAction: Any = action_loader.get("muster_base", class_only=True)


class ActionModule(MusterAction):
    """Ask for a ticket, drain, resume, or wait until a node is ready."""

    ARGUMENTS = {
        "state": {"type": "str", "required": True, "choices": ["registered", "drained", "resumed", "ready"]},
        "host_id": {"type": "str"},
        "node_id": {"type": "str"},
        "instance_id": {"type": "str"},
        "reason": {"type": "str", "default": "drained by a playbook"},
        "force": {"type": "bool", "default": False},
        "outlives_job": {"type": "bool", "default": False},
        "all_holds": {"type": "bool", "default": False},
        "timeout_s": {"type": "int", "default": 300},
    }

    def act(self, api: Any, args: dict[str, Any]) -> dict[str, Any]:
        """Bring the node into the state asked for."""
        if not (args["host_id"] or args["node_id"] or self._task.check_mode):
            raise AnsibleActionFail("the control API does not know this host: host_id or node_id is needed")
        if args["state"] == "registered":
            return self._registered(api, args)
        if args["state"] == "ready":
            return self._ready(api, args)
        node = self.find_node(api, args)
        if node is None:
            message = f"the control API knows no node of {_sought(args)}, so nothing is routed to it"
            return {"changed": False, "msg": message, "held_by": []}
        return self._drained(api, node, args) if args["state"] == "drained" else self._resumed(api, node, args["all_holds"])

    def _registered(self, api: Any, args: dict[str, Any]) -> dict[str, Any]:
        """Ask for a ticket unless the identity that the host holds is the one the API knows."""
        if not args["host_id"]:
            raise AnsibleActionFail("a ticket is for a host: host_id is needed")
        known = api.get(f"/v0/hosts/{self.part(args['host_id'])}")["node_id"]
        if known and known == args["node_id"]:
            return {"changed": False, "msg": f"registered as {known}", "node_id": known, "ticket": None}
        result = self.would("ask for an enrolment ticket", known or "not registered", "a new registration")
        if self._task.check_mode:
            return result | {"ticket": None}
        force = "?force=true" if known else ""
        ticket = api.post(f"/v0/hosts/{self.part(args['host_id'])}/enrolment{force}")["ticket"]
        # The ticket is a secret until it is used; an error before this line stays readable.
        return result | {"ticket": ticket, "_ansible_no_log": True}

    def _drained(self, api: Any, node: dict[str, Any], args: dict[str, Any]) -> dict[str, Any]:
        """Add this caller's hold, also to a node that others hold, and wait until nothing is in flight."""
        result = self.would(f"drain {node['name']}", node["state"], "drained") | {"node_id": node["id"]}
        unchanged = {"changed": False, "msg": f"{node['name']} is drained", "node_id": node["id"]}
        if self._task.check_mode:
            return unchanged if node["state"] == "drained" else result
        path = f"/v0/nodes/{node['id']}"
        held = api.post(f"{path}/drain", {name: args[name] for name in ("reason", "force", "outlives_job")})
        # A node that is away serves nobody, so there is nothing to wait for.
        if not self.poll(lambda: api.get(path)["state"] in ("drained", "offline"), args["timeout_s"]):
            raise AnsibleActionFail(f"{node['name']} still has requests in flight after {args['timeout_s']} s")
        return unchanged if _holders(held) == _holders(node) else result

    def _resumed(self, api: Any, node: dict[str, Any], all_holds: bool) -> dict[str, Any]:
        """Take this caller's hold away; those of others stay unless all are meant."""
        if node["admission"] == "open":
            return {"changed": False, "msg": f"{node['name']} is open", "node_id": node["id"], "held_by": []}
        result = self.would(f"resume {node['name']}", node["admission"], "open") | {"node_id": node["id"]}
        if self._task.check_mode:
            return result
        after = api.post(f"/v0/nodes/{node['id']}/resume{'?all_holds=true' if all_holds else ''}")
        held_by = sorted(_holders(after))
        if _holders(after) == _holders(node):
            message = f"{node['name']} is {after['admission']}, held by {', '.join(held_by) or 'nobody'}"
            return {"changed": False, "msg": message, "node_id": node["id"], "held_by": held_by}
        return result | {"held_by": held_by}

    def _ready(self, api: Any, args: dict[str, Any]) -> dict[str, Any]:
        """Wait until the node has loaded what its manifest asks for."""
        node = self.find_node(api, args)
        if self._task.check_mode:
            return self.foresee(False, _describe(node) if node else "there is no node yet")

        def probe() -> bool:
            nonlocal node
            node = self.find_node(api, args)
            return bool(node and _is_meant(node, args) and (_is_ready(node) or _is_hopeless(node)))

        self.poll(probe, args["timeout_s"])
        if node is None:
            raise AnsibleActionFail(f"no node has registered within {args['timeout_s']} s: {_sought(args)}")
        if not _is_meant(node, args):
            raise AnsibleActionFail(f"{node['name']} was started, but has not reported within {args['timeout_s']} s")
        if not _is_ready(node):
            raise AnsibleActionFail(f"the node is not ready: {_describe(node)}")
        return {"changed": False, "msg": _describe(node), "node_id": node["id"], "models": node["models"]}


def _holders(node: dict[str, Any]) -> set[str]:
    return {hold["holder"] for hold in node["holds"]}


def _is_meant(node: dict[str, Any], args: dict[str, Any]) -> bool:
    """Whether what the API knows was reported by the process asked about, and not by the one before it."""
    return args["instance_id"] in (None, node["instance_id"])


def _is_ready(node: dict[str, Any]) -> bool:
    """Online, or held by a drain with everything loaded."""
    ready = node["ready_models"]
    held = node["state"] == "drained" and ready["loaded"] >= ready["total"]
    return (node["state"] == "online" or held) and node["applied_revision"] == node["manifest_revision"]


def _is_hopeless(node: dict[str, Any]) -> bool:
    """Everything the manifest asks for has come to an end, and nothing of it can be served."""
    models = node["models"]
    return bool(models) and all(model["state"] == "failed" for model in models)


def _describe(node: dict[str, Any]) -> str:
    """Say a node's state and its own error texts in one line."""
    ready = node["ready_models"]
    parts = [f"{node['name']} is {node['state']}, {ready['loaded']} of {ready['total']} models loaded"]
    if node["admission"] == "pending":
        parts.append("it waits for approval (`muster nodes approve`)")
    parts += [
        f"{model['id']} is {model['state']}" + (f": {model['error']}" if model["error"] else "")
        for model in node["models"]
        if model["state"] != "ready"
    ]
    return "; ".join(parts)


def _sought(args: dict[str, Any]) -> str:
    return f"node {args['node_id']}" if args["node_id"] else f"host {args['host_id']}"
