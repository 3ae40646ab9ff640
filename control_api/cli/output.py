"""What commands print: tables for people, JSON for scripts."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

WIDTH_OF_PIPES = 250


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """Print one object, or a list of them, as JSON."""
    plain: Any = [i.model_dump(mode="json") for i in value] if isinstance(value, Sequence) else value.model_dump(mode="json")
    print(json.dumps(plain, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows under headings, or what to do when there are none."""
    rows = list(rows)
    if not rows:
        print(empty)
        return
    # Cells are plain text: no markup is read from names, which come from outside.
    table = Table(*(Column(name, overflow="fold") for name in columns), box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*[Text("" if cell is None else str(cell)) for cell in row])
    # A pipe has no width; whoever reads it wants whole lines.
    Console(width=None if sys.stdout.isatty() else WIDTH_OF_PIPES).print(table)


def size(count_bytes: float) -> str:
    """Return a size with its unit, e.g. ``98.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count_bytes < 1000:
            return f"{count_bytes:.0f} {unit}" if unit == "B" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1000
    return f"{count_bytes:.1f} TB"
