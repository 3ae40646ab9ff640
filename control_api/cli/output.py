"""What commands print: text and tables for people, JSON for scripts. Nothing else of the command line writes to a terminal.

Names, errors and output come from nodes and hosts. All of it is shown with its control characters written out.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from control_api.kit.text import visible

WIDTH_OF_PIPES = 250


def say(text: object, *, error: bool = False) -> None:
    """Print one line."""
    _write(visible(text), error=error)


def say_lines(text: object, *, error: bool = False) -> None:
    """Print text that has lines, such as output of a job or a difference."""
    _write(visible(text, lines=True), error=error)


def _write(text: str, *, error: bool) -> None:
    print(text, file=sys.stderr if error else sys.stdout, flush=True)


def confirm(question: str) -> bool:
    """Ask, and end the command unless the answer is yes."""
    return typer.confirm(visible(question), abort=True)


def prompt_secret(what: str) -> str:
    """Ask for something that must not be seen."""
    return str(typer.prompt(visible(what), hide_input=True))


def print_json(value: BaseModel | Sequence[BaseModel] | dict[str, Any]) -> None:
    """Print one object, or a list of them, as JSON that is plain ASCII."""
    document: Any = value
    if isinstance(value, BaseModel):
        document = value.model_dump(mode="json")
    elif isinstance(value, Sequence):
        document = [item.model_dump(mode="json") for item in value]
    # The one control character that the encoder leaves as it is.
    _write(json.dumps(document, indent=2).replace("\x7f", "\\u007f"), error=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows under headings, or what to do when there are none."""
    rows = list(rows)
    if not rows:
        say(empty)
        return
    table = Table(*(Column(name, overflow="fold") for name in columns), box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*[plain("" if cell is None else cell) for cell in row])
    # A pipe has no width; whoever reads it wants whole lines.
    Console(width=None if sys.stdout.isatty() else WIDTH_OF_PIPES).print(table)


def plain(text: object) -> Text:
    """Return one line for rich, in which it reads no markup."""
    return Text(visible(text))


@contextmanager
def status(what: str) -> Iterator[Any]:
    """Show on stderr that something goes on; yields a function that says what."""
    with Console(stderr=True).status(plain(what)) as shown:
        yield lambda text: shown.update(plain(text))


def size(count_bytes: float) -> str:
    """Return a size with its unit, e.g. ``98.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count_bytes < 1000:
            return f"{count_bytes:.0f} {unit}" if unit == "B" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1000
    return f"{count_bytes:.1f} TB"
