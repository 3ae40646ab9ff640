"""Writes what clients saw as a page of the reference."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.conformance.environments import CLIENTS as LOCKS
from tests.conformance.matrix import FAULTS, OPERATIONS, Case, Fault, applies
from tests.conformance.run import CLIENTS, Outcomes, real_id

PAGE = Path(__file__).parents[2] / "docs/reference/conformance.md"
HEAD = """# What clients see

Written by `tests/conformance`, which runs each client against the router: over a real engine (`xllamacpp` in a node),
and over one that does wrong what the first column says. Clients do not try again by themselves here.

*answer*: the whole answer, as if nothing had happened. Otherwise the name of the client's exception;
`curl` shows the error as the answer's body, or as the last frame of a stream.

"""


def write(outcomes: Outcomes) -> None:
    """Write the page."""
    lines = [f"* {client}: {what}" for client, what in _versions().items()]
    for operation, title in OPERATIONS.items():
        if operation != "headers":
            lines += ["", f"## {title[0].upper()}{title[1:]}", "", *_table(outcomes, operation)]
    PAGE.write_text(HEAD + "\n".join(lines) + "\n")


def _versions() -> dict[str, str]:
    node = json.loads((LOCKS / "openai_node/package.json").read_text())["dependencies"]["openai"]
    return {
        "openai-python": f"`openai` {version('openai')}, its two kinds of client",
        "openai-node": f"`openai` {node} from npm",
        "LangChain": f"`ChatOpenAI` and `OpenAIEmbeddings` of `langchain-openai` {_locked('langchain', 'langchain-openai')}",
        "LiteLLM": f"`litellm` {_locked('litellm', 'litellm')} as a client, which keeps no error codes",
        "curl": "what the system has",
    }


def _locked(name: str, package: str) -> str:
    found = re.search(rf"^{package}==(\S+)", (LOCKS / f"{name}.txt").read_text(), re.MULTILINE)
    assert found
    return found[1]


def _table(outcomes: Outcomes, operation: str) -> Iterator[str]:
    clients = [client.name for client in CLIENTS if operation in client.operations]
    yield f"| what happens | status, code | {' | '.join(clients)} |"
    yield "|---" * (len(clients) + 2) + "|"
    real = [outcomes.seen[real_id(client, operation)] for client in clients]
    yield _row("a real engine is asked", _told(real[0]), real)
    for fault in FAULTS:
        if applies(fault, operation):
            seen = [outcomes.seen[Case(client, operation, fault).id] for client in clients]
            yield _row(fault.words, _cause(fault), seen)


def _row(words: str, told: str, seen: list[dict[str, Any]]) -> str:
    return f"| {words} | {told} | {' | '.join(_shown(outcome) for outcome in seen)} |"


def _shown(outcome: dict[str, Any]) -> str:
    return "answer" if "answer" in outcome else f"`{outcome['error']}`"


def _cause(fault: Fault) -> str:
    return _told({"status": fault.status, "code": fault.code})


def _told(outcome: dict[str, Any]) -> str:
    return f"{outcome.get('status') or 'error frame'} `{outcome['code']}`" if outcome.get("code") else "200"
