"""Fixtures for all tests."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which is what every process of ours runs on."""
    return "asyncio"
