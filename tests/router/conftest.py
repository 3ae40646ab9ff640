"""Fixtures of the router's tests."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.router.fleet import Fleet


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run on uvloop, as the router does."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def fleet(anyio_backend: Any) -> AsyncIterator[Fleet]:
    """Yield a fleet without nodes."""
    made = Fleet()
    yield made
    await made.close()
