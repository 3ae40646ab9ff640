"""Whatever is sent to whatever there is, no answer is a mistake of ours, and every error is in its shape.

A longer run of the same: ``make fuzz``.
"""

from pathlib import Path

import pytest

from tests.contract import targets
from tests.contract.fuzz import Finding, Target, fuzz
from tests.running import on_postgres

EXAMPLES = 2


def everything(target: Target) -> list[Finding]:
    """Try all operations."""
    return [finding for label in target.operations for finding in fuzz(target, label, EXAMPLES)]


def test_nothing_sent_to_the_router_is_its_mistake() -> None:
    assert targets.meanwhile(targets.router(), everything) == []


@pytest.mark.slow
def test_nothing_sent_to_the_control_api_is_its_mistake(tmp_path: Path, postgres_url: str) -> None:
    """On PostgreSQL, which is the stricter store."""
    assert targets.meanwhile(targets.control_api(tmp_path, **on_postgres(postgres_url)), everything) == []
