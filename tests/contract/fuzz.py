"""Sends what an OpenAPI document allows, and what it forbids, to every operation, and collects answers that are our fault."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx2
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode

from tests.contract.hostile import Request, requests_of

SEED = 5
ANSWER_LIMIT_S = 60
NO_HTTP = "Invalid HTTP request received."  # the server's own words for an address beyond 64 KiB
# That what we need is away, or answers nonsense, is no mistake of ours; everything else from 500 on is.
INTENDED = frozenset({"hub_unreachable", "hub_answer", "provider_unreachable"})


@dataclass(frozen=True)
class Target:
    """Where the operations are, and the ids of things that exist there, by the name of the parameter."""

    url: str
    key: str
    document: dict[str, Any]
    existing: Mapping[str, str]

    @cached_property
    def operations(self) -> dict[str, APIOperation]:
        """All operations by their labels; those that delete what others ask for come last."""
        found = [result.ok() for result in schemathesis.openapi.from_dict(self.document).get_all_operations()]
        return {operation.label: operation for operation in sorted(found, key=lambda one: one.method.upper() == "DELETE")}


@dataclass(frozen=True)
class Finding:
    """One answer that must not be; ``status`` 0: there was none."""

    operation: str
    status: int
    request: str
    answer: str


def fuzz(target: Target, label: str, examples: int, *, begin: int = SEED) -> list[Finding]:
    """Try one operation with so many good requests, bad ones, good ones about things that exist, and hostile ones.

    The same ``begin`` gives the same requests, as long as the code is the same.
    """
    operation = target.operations[label]
    existing = {name.name: target.existing[name.name] for name in operation.path_parameters if name.name in target.existing}
    strategies: list[Any] = [operation.as_strategy(GenerationMode.POSITIVE)]
    if operation.body or operation.query:  # every text is a good one in a path
        strategies.append(operation.as_strategy(GenerationMode.NEGATIVE))
    if existing:
        strategies.append(operation.as_strategy(GenerationMode.POSITIVE, path_parameters=existing))
    findings: list[Finding] = []
    with httpx2.Client(base_url=target.url, timeout=ANSWER_LIMIT_S, trust_env=False) as http:
        for strategy in (*strategies, requests_of(operation, existing)):
            _run(_Asked(target, http, label, findings), strategy, examples, begin)
    return findings


@dataclass
class _Asked:
    target: Target
    http: httpx2.Client
    label: str
    findings: list[Finding]

    def ask(self, what: Case | Request) -> None:
        try:
            status, text = self._hostile(what) if isinstance(what, Request) else self._by_schema(what)
        except (httpx2.TransportError, OSError) as error:  # requests' errors are the latter
            status, text = 0, repr(error)
        if _is_our_fault(status, text):
            told = str(what) if isinstance(what, Request) else what.as_curl_command()
            self.findings.append(Finding(self.label, status, told[:2000], text[:500]))

    def _by_schema(self, case: Case) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self.target.key}"}
        answer = case.call(base_url=self.target.url, headers=headers, allow_redirects=False, timeout=ANSWER_LIMIT_S)
        return answer.status_code, answer.content.decode(errors="replace")

    def _hostile(self, request: Request) -> tuple[int, str]:
        headers = [("authorization", f"Bearer {self.target.key}"), *request.headers]
        answer = self.http.request(
            request.method,
            self.target.url + request.target,
            headers=[(name, value.encode()) for name, value in headers],
            content=request.body,
        )
        return answer.status_code, answer.content.decode(errors="replace")


def _run(asked: _Asked, strategy: Any, examples: int, begin: int) -> None:
    @seed(begin)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(what=strategy)
    def one(what: Case | Request) -> None:
        asked.ask(what)

    with contextlib.suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
        one()


def _is_our_fault(status: int, text: str) -> bool:
    code = _error_code(text)
    if status >= 500:
        return code not in INTENDED
    return status < 100 or (status >= 400 and code is None and bool(text) and text != NO_HTTP)


def _error_code(text: str) -> str | None:
    try:
        error = json.loads(text)["error"]
        return str(error["code"]) if error["message"] else None
    except (ValueError, KeyError, TypeError):
        return None
