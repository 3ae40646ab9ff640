"""What is fetched is what was locked: name, version and hash."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = re.compile(r"^([a-z0-9._-]+)==(\S+)(?: ;[^\\]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def locked(name: str) -> dict[str, tuple[str, str]]:
    """Return version and hashes by package."""
    return {found[1]: (found[2], found[3]) for found in PACKAGE.finditer((PROJECT / "requirements" / name).read_text())}


def test_uv_is_of_one_version_before_and_after_there_is_an_environment() -> None:
    assert locked("uv.txt") == {"uv": locked("control.txt")["uv"]}


@pytest.mark.parametrize("lock", sorted(path.name for path in (PROJECT / "requirements").glob("*.txt")))
def test_every_package_of_a_lock_has_a_hash(lock: str) -> None:
    named = re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==", (PROJECT / "requirements" / lock).read_text(), re.MULTILINE)
    assert named
    assert set(named) == set(locked(lock))


@pytest.mark.parametrize("script", sorted(path.name for path in (PROJECT / "tools").glob("*.sh")))
def test_no_tool_installs_what_is_not_locked(script: str) -> None:
    text = (PROJECT / "tools" / script).read_text().replace("\\\n", " ").replace('"${locked[@]}"', "--require-hashes")
    for line in text.splitlines():
        if (
            re.search(r"\bpip (install|wheel|download)\b|\bnpm (install|ci)\b|\btool run\b|\buvx\b", line)
            and "echo" not in line
        ):
            own = "--no-deps" in line and ("--editable ." in line or "$(wheel)" in line)
            assert "--require-hashes" in line or own, line
