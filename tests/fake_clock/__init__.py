"""A wall clock for tests that jumps when it is told to, in processes that are started with its environment."""

import subprocess
from pathlib import Path

__all__ = ["FakeClock"]

_SOURCE = Path(__file__).with_name("fake_clock.c")


class FakeClock:
    """Builds the library in a directory, and writes the file that says by how much the clock is wrong."""

    def __init__(self, directory: Path) -> None:
        self._library = directory / "fake_clock.so"
        self._file = directory / "wrong_by_s"
        command = ["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(self._library), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def jump(self, wrong_by_s: int) -> None:
        """Set the wall clock this many seconds ahead of the real one, or behind."""
        temporary = self._file.with_suffix(".new")
        temporary.write_text(str(wrong_by_s), encoding="ascii")
        temporary.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to have this clock; its children have it too."""
        return {"LD_PRELOAD": str(self._library), "FAKE_CLOCK_FILE": str(self._file)}
