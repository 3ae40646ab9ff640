"""Sends what an OpenAPI document allows, and what it forbids, to every operation, and collects answers that are our fault."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode

SEED = 5
ANSWER_LIMIT_S = 60
# A service that we need and that is away is no mistake of ours.
NO_HTTP = "Invalid HTTP request received."  # the server's own words for an address beyond 64 KiB
OUR_FAULT = frozenset(range(500, 600)) - {503}


@dataclass(frozen=True)
class Target:
    """Where the operations are, and the ids of things that exist there, by the name of the parameter."""

    url: str
    key: str
    document: dict[str, Any]
    existing: Mapping[str, str]


@dataclass(frozen=True)
class Finding:
    """One answer that must not be."""

    operation: str
    status: int
    request: str
    answer: str


def operations(document: dict[str, Any]) -> list[str]:
    """Return the labels of all operations of a document; those that delete what others ask for come last."""
    return sorted((operation.label for operation in _operations(document)), key=lambda label: label.startswith("DELETE"))


def fuzz(target: Target, label: str, examples: int) -> list[Finding]:
    """Try one operation with so many good requests, bad ones, and good ones about things that exist.

    The seed is fixed: the same code gets the same requests.
    """
    (operation,) = [found for found in _operations(target.document) if found.label == label]
    strategies = [operation.as_strategy(mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]
    known = {name: target.existing[name] for name in _path_names(operation) if name in target.existing}
    if known:
        strategies.append(operation.as_strategy(GenerationMode.POSITIVE, path_parameters=known))
    findings: list[Finding] = []
    for strategy in strategies:
        _run(target, strategy, examples, findings)
    return findings


def _run(target: Target, strategy: Any, examples: int, findings: list[Finding]) -> None:
    @seed(SEED)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def one(case: Case) -> None:
        answer = case.call(
            base_url=target.url,
            headers={"Authorization": f"Bearer {target.key}"},
            allow_redirects=False,
            timeout=ANSWER_LIMIT_S,
        )
        text = answer.content.decode(errors="replace")
        if answer.status_code in OUR_FAULT or (answer.status_code >= 400 and not _is_error(text)):
            curl = case.as_curl_command()
            findings.append(Finding(case.operation.label, answer.status_code, curl[:2000], text[:500]))

    with contextlib.suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
        one()


def _is_error(text: str) -> bool:
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return not text or text == NO_HTTP
    return {"code", "message"} <= set(error)


def _operations(document: dict[str, Any]) -> Iterator[APIOperation]:
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        yield result.ok()


def _path_names(operation: APIOperation) -> list[str]:
    return [parameter.name for parameter in operation.path_parameters]
