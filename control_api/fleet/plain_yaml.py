"""Reads YAML that somebody sent: plain values only, and no more of them than a budget allows.

``yaml.safe_load`` gives a short text any size through aliases, and dates, sets and bytes, which no JSON can say. Here the
events of the parser are taken one by one, so that reading ends where the budget does.
"""

from collections.abc import Iterator
from typing import Any

import yaml

MAX_DEPTH = 40
# More digits than any setting has; converting a number takes a time that grows with the square of them.
MAX_NUMBER_CHARS = 64

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # where PyYAML was built without libyaml: slower
_CORE = "tag:yaml.org,2002:"
_TEXT = frozenset({"str", "timestamp", "value", "merge"})
_RESOLVER: Any = yaml.resolver.Resolver()
_CONSTRUCT: Any = yaml.constructor.SafeConstructor()
_CONSTRUCTORS = {
    "null": _CONSTRUCT.construct_yaml_null,
    "bool": _CONSTRUCT.construct_yaml_bool,
    "int": _CONSTRUCT.construct_yaml_int,
    "float": _CONSTRUCT.construct_yaml_float,
}


class NotPlain(ValueError):
    """A text that is not the plain data that was asked for; the message says what and where."""


class Budget:
    """How many values may still come out of a text."""

    def __init__(self, values: int) -> None:
        self._values = self._left = values

    def spend(self, values: int = 1) -> None:
        """Count values. Raises ``NotPlain`` when there were too many."""
        self._left -= values
        if self._left < 0:
            raise NotPlain(f"it comes to more than {self._values} values")


def read_yaml(text: str, budget: Budget) -> Any:
    """Return what one YAML document says: None, bool, int, float, str, and lists and dicts with text as keys of them.

    Raises ``NotPlain`` for everything else that YAML can say, and for a text that is not YAML.
    """
    try:
        events: Iterator[yaml.Event] = yaml.parse(text, Loader=_PARSER)
        return _Reader(events, budget).document()
    except (yaml.YAMLError, UnicodeError) as error:
        raise NotPlain(f"it is not YAML: {str(error)[:200]}") from error


def read_scalar(text: str, where: str) -> Any:
    """Return what a word of YAML without quotes says. Raises ``NotPlain``, saying ``where``, for a number that is too long."""
    return _plain(_RESOLVER.resolve(yaml.ScalarNode, text, (True, False)), text, where)


class _Reader:
    def __init__(self, events: Iterator[yaml.Event], budget: Budget) -> None:
        self._events = (event for event in events if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent))
        self._budget = budget

    def document(self) -> Any:
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self._value(event, ())
        if any(not isinstance(event, yaml.DocumentEndEvent | yaml.StreamEndEvent) for event in self._events):
            raise NotPlain("it holds more than one document")
        return value

    def _value(self, event: yaml.Event, at: tuple[str, ...]) -> Any:
        self._budget.spend()
        where = ".".join(at)[:200] or "it"
        if len(at) > MAX_DEPTH:
            raise NotPlain(f"{where[:60]}… is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            raise NotPlain(f"{where} is an alias (*{event.anchor}), which is not taken here: write it out")
        if isinstance(event, yaml.ScalarEvent):
            return _plain(event.tag or _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit), event.value, where)
        kind = "seq" if isinstance(event, yaml.SequenceStartEvent) else "map"
        if getattr(event, "tag", None) not in (None, "!", _CORE + kind):
            raise NotPlain(f"{where} has the tag {getattr(event, 'tag', '')}, which is not taken here")
        return self._list(at) if kind == "seq" else self._dict(at)

    def _list(self, at: tuple[str, ...]) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(self._value(event, (*at, str(len(found)))))
        return found

    def _dict(self, at: tuple[str, ...]) -> dict[str, Any]:
        found = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise NotPlain(f"{'.'.join(at)[:200] or 'it'} has a key that is not a word")
            found[event.value] = self._value(next(self._events), (*at, event.value))
        return found


def _plain(tag: str, text: str, where: str) -> Any:
    kind = "str" if tag == "!" else tag.removeprefix(_CORE)
    if kind in _TEXT:
        return text
    if kind not in _CONSTRUCTORS:
        raise NotPlain(f"{where} has the tag {tag[:80]}, which is not taken here")
    if len(text) > MAX_NUMBER_CHARS:
        raise NotPlain(f"{where} is a number of {len(text)} characters")
    try:
        return _CONSTRUCTORS[kind](yaml.ScalarNode(tag, text))
    except (ValueError, LookupError) as error:
        raise NotPlain(f"{where} is not {kind}: {text!r}") from error
