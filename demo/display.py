"""Tells on the terminal what the demo is doing; keeps the seconds of each stage."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.text import Text

from control_api.kit.text import visible


class StageFailed(Exception):
    """A stage of the demo failed; the message says why and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.stage = ""


class Display:
    """Stages with their times; everything goes to standard error, so that standard output holds the result."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._status: Status | None = None
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        """Show a stage while it runs, and its seconds when it is done."""
        started = time.monotonic()
        try:
            with self._console.status(Text(visible(what))) as self._status:
                if not self._console.is_terminal:
                    self.line(what)
                yield
        except StageFailed as error:
            error.stage = name
            raise
        finally:
            self._status = None
        self.seconds[name] = round(time.monotonic() - started, 1)
        self._console.print(Text.assemble(("✓", "green"), f" {visible(what)} ", (f"{self.seconds[name]} s", "dim")))

    def now(self, what: str) -> None:
        """Say what the running stage is at."""
        if self._status and self._console.is_terminal:
            self._status.update(Text(visible(what)[: self._console.width - 4]))

    def line(self, text: str = "") -> None:
        """Print a line."""
        self._console.print(visible(text, lines=True), markup=False, highlight=False)
