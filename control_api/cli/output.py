"""What commands print: tables for people, JSON for scripts."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table


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
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for row in rows:
        # Names come from outside: no markup is read from them.
        table.add_row(*[_plain(cell) for cell in row])
    console = Console()
    console.print(table, markup=False)


def _plain(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return text.replace("[", "\\[")


def size(count_bytes: float) -> str:
    """Return a size with its unit, e.g. ``98.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count_bytes < 1000:
            return f"{count_bytes:.0f} {unit}" if unit == "B" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1000
    return f"{count_bytes:.1f} TB"
