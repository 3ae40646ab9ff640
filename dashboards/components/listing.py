"""What a user wants to see of a list: words searched for, a filter, the order, and how many rows."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dashboards.components.view import Action

# Rows that are drawn at first, and by which each "show more" adds.
STEP = 100


class Listing[Row]:
    """Searches, filters, orders and cuts the rows of one table, by what the user does in it.

    Parameters
    ----------
    columns: by name, what rows are ordered by; a column whose name is not here cannot be chosen.
    text: what of a row is searched.
    kind: what of a row the filter chooses by.
    order, descending: how to begin; None: as the rows come.
    """

    def __init__(
        self,
        columns: Mapping[str, Callable[[Row], Any]],
        text: Callable[[Row], str],
        kind: Callable[[Row], str] | None = None,
        order: str | None = None,
        *,
        descending: bool = False,
    ) -> None:
        self._columns, self._text, self._kind = columns, text, kind
        self.order, self.descending = order, descending
        self.search, self.only, self.step = "", "", STEP

    def take(self, action: Action) -> bool:
        """Take what the user did and tell whether it was for this list."""
        if action.name == "search":
            self.search, self.step = action.value.strip(), STEP
        elif action.name == "only":
            self.only, self.step = action.value, STEP
        elif action.name == "order" and action.value in self._columns:
            self.descending = not self.descending if self.order == action.value else False
            self.order = action.value
        elif action.name == "more":
            self.step += STEP
        else:
            return False
        return True

    def rows(self, every: Iterable[Row]) -> "Rows[Row]":
        """Return what is to be shown of all rows."""
        words = self.search.lower().split()
        found = [row for row in every if all(word in self._text(row).lower() for word in words)]
        if self.only and self._kind:
            found = [row for row in found if self._kind(row) == self.only]
        if self.order:
            found.sort(key=self._columns[self.order], reverse=self.descending)
        return Rows(found[: self.step], max(0, len(found) - self.step))


class Rows[Row]:
    """The rows to show, and how many more there are."""

    def __init__(self, shown: list[Row], hidden: int) -> None:
        self.shown, self.hidden = shown, hidden
