"""Markdown that a model wrote, as markup: HTML in it stays text, and none of it takes long, whatever it is."""

import re

from markdown_it import MarkdownIt
from markupsafe import Markup

# So much of a text is read as Markdown, for reading costs a hundred times what showing does; the rest is shown as it is.
READ_CHARS = 6 << 10
# Each row of a table is as long as its head, filled up if need be: without a bound, 2 KB are 65,536 cells.
TABLE_CELLS = 1 << 12

_READER = MarkdownIt("commonmark", {"html": False}).disable("image")
_TABLE_READER = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def parted(text: str) -> tuple[str, str]:
    """Return the lines of a text that are read as Markdown, and the rest."""
    if len(text) <= READ_CHARS:
        return text, ""
    end = text.rfind("\n", 0, READ_CHARS) + 1
    return text[:end], text[end:]


def markup(text: str) -> Markup:
    """Return Markdown as markup."""
    reader = _TABLE_READER if _most_cells(text) <= TABLE_CELLS else _READER
    return Markup(reader.render(text))  # noqa: S704 - the renderer escapes HTML


def plain(text: str) -> Markup:
    """Return a text as markup that shows it as it is."""
    return Markup('<div class="plain">{}</div>').format(text) if text else Markup()


def _most_cells(text: str) -> int:
    """Return how many cells there are at most: as if all were tables, each of which ends with an empty line at the latest."""
    blocks = re.split(r"\n[ \t]*\n", re.sub(r"\r\n?", "\n", text))
    return sum(_cells_of(block.split("\n")) for block in blocks if "|" in block)


def _cells_of(lines: list[str]) -> int:
    return len(lines) * (1 + max(line.count("|") for line in lines))
