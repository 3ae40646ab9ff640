"""Real clients against the real router: over a real engine, and over one that does everything wrong.

What they saw is written to ``docs/reference/conformance.md``.
"""

from typing import Any

import pytest
import uvloop

from tests.conformance import page
from tests.conformance.matrix import cases_of
from tests.conformance.run import CLIENTS, REAL_CHAT, Client, Outcomes, collect, real_id
from tests.node_service.process import NodeProcess

# The real model says the alphabet, from some letter on.
LETTERS = "abcdefghijklmnopqrstuvwxyz" * 2
# OpenAI's names, by status: every client derives its own from them.
NAMES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    429: "RateLimitError",
    502: "InternalServerError",
    503: "InternalServerError",
    None: "APIError",
}
OTHER_NAMES: dict[str, dict[int | None, str]] = {
    "curl": {**dict.fromkeys(NAMES, "error body"), None: "error frame"},
    # It takes every error that OpenAI calls an invalid request for one, whatever its status.
    "LiteLLM": {
        403: "BadRequestError",
        502: "BadGatewayError",
        503: "ServiceUnavailableError",
        None: "MidStreamFallbackError",
    },
}

pytestmark = pytest.mark.parametrize(
    ("client", "operation"),
    [(client, operation) for client in CLIENTS for operation in client.operations],
    ids=lambda value: value.name.replace(" ", "-") if isinstance(value, Client) else value,
)


@pytest.fixture(scope="module")
def outcomes(serving: NodeProcess) -> Outcomes:
    """What all clients saw, each in one run."""
    found = uvloop.run(collect(serving))
    if not found.missing:
        page.write(found)
    return found


def seen(outcomes: Outcomes, client: Client) -> dict[str, dict[str, Any]]:
    """Return what a client saw; skip where it cannot be run."""
    if why := outcomes.missing.get(client.name):
        pytest.skip(f"{client.name} is not tested here: {why}")
    return outcomes.seen


def in_words_of(client: Client, outcome: dict[str, Any]) -> dict[str, Any]:
    """Return what a client makes of an outcome."""
    if "answer" in outcome:
        return outcome
    error = (NAMES | OTHER_NAMES.get(client.name, {}))[outcome["status"]]
    if client.name == "LiteLLM":  # keeps no codes, and gives what broke off a status
        return {**outcome, "error": error, "code": None, "status": outcome["status"] or 500}
    return {**outcome, "error": error}


def test_whatever_happens_the_client_gets_its_answer_or_the_right_error(
    outcomes: Outcomes, client: Client, operation: str
) -> None:
    found = seen(outcomes, client)
    cases = [case for case in cases_of(client.name, client.operations) if case.operation == operation]

    expected = {case.fault.name: in_words_of(client, case.fault.expected(operation, case.model)) for case in cases}
    assert {case.fault.name: found[case.id] for case in cases} == expected


def test_a_real_engine_answers(outcomes: Outcomes, client: Client, operation: str) -> None:
    outcome = seen(outcomes, client)[real_id(client.name, operation)]

    if operation.startswith("response"):
        assert outcome["answer"]
        assert set(outcome["answer"]) <= set(LETTERS)
    elif operation == "embedding":
        assert len(outcome["answer"]) == 64
    elif operation == "models":
        assert outcome["answer"] == [REAL_CHAT]
    elif operation == "headers":
        assert outcome["answer"]["x-muster-attempts"] == "1"
    elif operation == "model_shown":
        assert outcome["answer"] == REAL_CHAT
    else:
        assert len(outcome["answer"]) == 26
        assert outcome["answer"] in LETTERS
