"""Text from elsewhere on its way to a terminal or a log: what would act on the reader is shown instead."""

import re
import unicodedata
from collections.abc import MutableMapping
from typing import Any

# Letters and marks that have no picture of their own, beside what Unicode calls controls and formats.
_UNSEEN = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef"
_HARMLESS = re.compile(f"[^{_UNSEEN}]")
_SUSPECT = re.compile(r"[^ -~]")
# Spaces have a width; all other characters that are not printable act, hide, or are not in any font.
_SPACES = "Zs"
# What is before a secret stays, as the first group of each: random tokens of ours (a prefix and 32 bytes), those of hubs and
# providers, JWTs, what follows a question mark (signatures and keys), passwords in URLs, and what is called a secret.
_SECRETS = re.compile(
    r"\b([a-z]{2,8}_)[\w-]{43}(?![\w-])"
    r"|\b(hf_|sk-|gsk_|AIza)[\w-]{16,}"
    r"|\b(eyJ)[\w-]{10,}\.[\w-]+\.[\w-]+"
    r"|(?<=[^\s?])(\?)[^\s\"<>\\]+"
    r"|(://)[^\s/@\"'<>\\]+(?=@)"
    r"|(?<![\w-])([\w-]*(?:token|secret|password|passwd|api[_-]?key|signature)=)[^\s&\"'<>\\]+",
    re.ASCII | re.IGNORECASE,
)
HIDDEN = "…"


def visible(text: object, *, lines: bool = False) -> str:
    r"""Return text in which control, bidirectional and invisible characters are written out, such as ``\x1b``.

    Parameters
    ----------
    lines: line feeds and tabs stay, for text that has lines.
    """
    text = str(text)
    if lines:
        text = text.replace("\r\n", "\n")
    kept = "\n\t" if lines else ""
    return _SUSPECT.sub(lambda found: found[0] if found[0] in kept or _has_picture(found[0]) else _written(found[0]), text)


def _has_picture(char: str) -> bool:
    return bool((char.isprintable() or unicodedata.category(char) == _SPACES) and _HARMLESS.match(char))


def _written(char: str) -> str:
    code = ord(char)
    if char in "\t\n\r":
        return repr(char)[1:-1]
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def without_secrets(text: str) -> str:
    """Return text without the tokens and query strings that are in it."""
    return _SECRETS.sub(lambda found: f"{found[found.lastindex or 0]}{HIDDEN}", text)


# Fields of log records that have lines; what follows a line feed is set in, so that it does not look like a record.
_WITH_LINES = frozenset({"exception", "stack", "output"})


def fit_for_logs(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take secrets and control characters out of a record; a structlog processor."""
    for name, value in event.items():
        # What structlog needs itself: the record of the standard library, an exception that is still to be written.
        if not name.startswith("_") and name != "exc_info":
            event[name] = _fit(value, lines=name in _WITH_LINES)
    return event


def _fit(value: Any, *, lines: bool = False) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, dict):
        return {visible(key): _fit(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_fit(part) for part in value]
    return loggable(str(value), lines=lines)


def loggable(text: str, *, lines: bool = False) -> str:
    """Return text as it may stand in a log."""
    return visible(without_secrets(text), lines=lines).replace("\n", "\n    ")
