"""The files of the state directory are their user's only, also those that were open before."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_api.settings import DASHBOARD_KEY_FILE, LOCAL_KEY_FILE
from tests.running import running_api, settings_for

pytestmark = pytest.mark.anyio


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}


async def test_what_was_open_is_closed_at_the_next_start_and_links_stay(tmp_path: Path, no_umask: None) -> None:
    settings = settings_for(tmp_path)
    async with running_api(settings):
        pass
    state, others = settings.state_dir, tmp_path / "others"
    others.write_text("somebody else's")
    (state / "logs").mkdir()
    (state / "logs" / "api.log").write_text("")
    (state / "logs" / "elsewhere.log").symlink_to(others)
    for path in [state, *state.rglob("*"), others]:
        path.chmod(0o777 if path.is_dir() else 0o666)

    async with running_api(settings):
        found = modes(state)

    assert {LOCAL_KEY_FILE, DASHBOARD_KEY_FILE, "keys.json.lock", "control.db.migrating", "logs/api.log"} <= set(found)
    open_ones = {name: oct(mode) for name, mode in found.items() if mode & 0o077 and name != "logs/elsewhere.log"}
    assert open_ones == {}
    assert stat.S_IMODE(state.stat().st_mode) & 0o022 == 0
    assert stat.S_IMODE(others.stat().st_mode) == 0o666
