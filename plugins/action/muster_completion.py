# SPDX-License-Identifier: GPL-3.0-or-later
# Imports ansible-core, hence the licence of this file.
"""Action `muster_completion`: a real answer from one node. Documented in plugins/modules/muster_completion.py."""

import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader

MusterAction: Any = action_loader.get("muster_base", class_only=True)
# What the router says while a node that was just started is not in its table yet, or has no free slot.
NOT_YET = frozenset({"model_loading", "no_ready_node", "queue_timeout", "queue_full", "model_not_found", "invalid_api_key"})


class ActionModule(MusterAction):
    """Send one chat completion through the router, pinned to a node, and check who answered."""

    ARGUMENTS = {
        "host_id": {"type": "str"},
        "node_id": {"type": "str"},
        "model": {"type": "str"},
        "prompt": {"type": "str", "default": "Say hello."},
        "max_tokens": {"type": "int", "default": 16},
        "allow_cpu": {"type": "bool", "default": False},
        "timeout_s": {"type": "int", "default": 120},
    }

    def act(self, api: Any, args: dict[str, Any]) -> dict[str, Any]:
        """Return the answer, who gave it and how long it took."""
        node = self.find_node(api, args)
        if self._task.check_mode:
            name = node["name"] if node else "the node, once there is one"
            return self.foresee(False, f"would ask {name} for a completion through the router")
        if node is None:
            raise AnsibleActionFail(f"there is no node for {args['node_id'] or args['host_id']}")
        grant = api.post("/v0/auth/inference-token", {"node_ids": [node["id"]]})
        router = self.router(grant["router_url"], grant["token"], args)
        listed, _ = self._ask(router, args, "GET", "/v1/models")
        embedding = {entry["id"] for entry in listed["data"] if entry.get("capabilities") == ["embeddings"]}
        model = _choose(node, args["model"], embedding)
        _refuse_cpu(node, model, args["allow_cpu"])
        started = time.monotonic()
        path, body = _question(model["id"], args, embedding=model["id"] in embedding)
        answer, headers = self._ask(router, args, "POST", path, body, {"x-muster-pin-node": node["id"]})
        return {
            "changed": False,
            "answer": _text(answer),
            "model": model["id"],
            "node_id": node["id"],
            "node": node["name"],
            "device": model["device"],
            "seconds": round(time.monotonic() - started, 3),
        } | _checked(node, headers)

    def _ask(
        self,
        router: Any,
        args: dict[str, Any],
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[Any, dict[str, str]]:
        """Send a request until it is answered: a router needs a moment to learn of a new node or token."""
        deadline = time.monotonic() + args["timeout_s"]
        while True:
            left = max(deadline - time.monotonic(), 1.0)
            try:
                return router.send(method, path, body, headers, timeout_s=left)
            except self.ApiError as error:
                final = error.status is not None and error.code not in NOT_YET
                if final or time.monotonic() + 1 >= deadline:
                    raise
            time.sleep(1)


def _choose(node: dict[str, Any], wanted: str | None, embedding: set[str]) -> dict[str, Any]:
    """Return the model to ask: the one wanted, else the first that is ready; those for embeddings come last."""
    ready = [model for model in node["models"] if model["state"] == "ready"]
    ready.sort(key=lambda model: model["id"] in embedding)
    chosen = [model for model in ready if wanted in (None, "", model["id"])]
    if chosen:
        return chosen[0]
    states = ", ".join(f"{model['id']} {model['state']}" for model in node["models"]) or "none"
    raise AnsibleActionFail(f"{node['name']} has no ready model{f' {wanted}' if wanted else ''}; its models: {states}")


def _refuse_cpu(node: dict[str, Any], model: dict[str, Any], allow_cpu: bool) -> None:
    gpus = node["hardware"].get("gpus")
    if gpus and model["device"] == "cpu" and not allow_cpu:
        raise AnsibleActionFail(
            f"{node['name']} has {len(gpus)} GPU(s) but serves {model['id']} from the CPU: "
            "its engine has no CUDA backend, or set node_service_allow_cpu"
        )


def _question(model: str, args: dict[str, Any], *, embedding: bool) -> tuple[str, dict[str, Any]]:
    """Return what to ask, and where."""
    if embedding:
        return "/v1/embeddings", {"model": model, "input": args["prompt"]}
    messages = [{"role": "user", "content": args["prompt"]}]
    return "/v1/chat/completions", {"model": model, "messages": messages, "max_tokens": args["max_tokens"]}


def _text(answer: Any) -> str:
    """Return what the model said; an empty answer is a failure."""
    try:
        if "data" in answer:
            return f"a vector of {len(answer['data'][0]['embedding'])} numbers"
        text = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise AnsibleActionFail(f"the router's answer is no chat completion: {str(answer)[:200]}") from error
    if not (text or "").strip():
        raise AnsibleActionFail("the router's answer is empty")
    return str(text)


def _checked(node: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    """Fail unless the answer came from `node`."""
    answered = headers.get("x-muster-node", "")
    if answered not in (node["id"], node["name"]):
        raise AnsibleActionFail(f"asked {node['name']} ({node['id']}), but {answered or 'nobody named'} answered")
    return {"msg": f"{node['name']} answered through the router"}
