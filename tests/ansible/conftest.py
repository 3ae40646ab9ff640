"""A fake API, and Ansible talking to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.fake_api import FakeApi
from tests.ansible.runs import Ansible


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """A control API that speaks the contract."""
    with FakeApi() as fake:
        yield fake


@pytest.fixture
def ansible(api: FakeApi, tmp_path: Path) -> Ansible:
    """Ansible with an operate key for `api`."""
    return Ansible(api, tmp_path)
