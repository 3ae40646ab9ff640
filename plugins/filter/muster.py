# SPDX-License-Identifier: GPL-3.0-or-later
# Imports ansible-core, hence the licence of this file. Needs nothing but ansible-core and the standard library.
"""Filters of Muster's templates: a value becomes one value of the file's format, or the task fails."""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

_WORD = re.compile(r"[0-9A-Za-z_./:+~][0-9A-Za-z_./:+~-]*")
_URL = re.compile(r"[0-9A-Za-z_./:@%+,~=&!*\[\]-]+")
_ENDS_LINES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def word(value: Any) -> str:
    """Return a value that every format reads as one word: letters, digits and little more."""
    return _checked(_WORD, value, "one plain word")


def url(value: Any) -> str:
    """Return a URL that needs no quotes, and ends none."""
    return _checked(_URL, value, "a plain URL")


def unit_quoted(value: Any) -> str:
    """Return a value in quotes as ``Environment=`` of a unit takes it."""
    return '"' + _line(value).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def environment_quoted(value: Any) -> str:
    """Return a value in quotes as a file of ``EnvironmentFile=`` takes it."""
    return '"' + re.sub(r'([\\"`$])', r"\\\1", _line(value)) + '"'


def _checked(pattern: re.Pattern[str], value: Any, what: str) -> str:
    text = str(value)
    if not pattern.fullmatch(text):
        raise AnsibleFilterError(f"a template needs {what}, not {ascii(text)[:80]}")
    return text


def _line(value: Any) -> str:
    text = str(value)
    if any(unicodedata.category(char) in _ENDS_LINES for char in text):
        raise AnsibleFilterError("a template needs a value without control characters and separators of lines")
    return text


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[[Any], str]]:
        """Return the filters by name."""
        return {
            "muster_word": word,
            "muster_url": url,
            "muster_unit_quoted": unit_quoted,
            "muster_environment_quoted": environment_quoted,
        }
