"""Languages: texts from gettext catalogues, numbers and sizes as the language writes them.

English is the language of the source. Other languages are ``locale/<language>/LC_MESSAGES/dashboards.po``, read as they
are, so that no compiled file can be out of step.
"""

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from babel.core import negotiate_locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent
from babel.support import NullTranslations, Translations

LOCALE_DIR = Path(__file__).parent / "locale"
SOURCE_LANGUAGE = "en"
LANGUAGES: Mapping[str, str] = MappingProxyType({"en": "English", "ja": "日本語"})

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class Language:
    """One language: ``gettext`` and ``ngettext`` for texts, the rest for figures."""

    def __init__(self, code: str, translations: NullTranslations) -> None:
        self.code = code
        self.name = LANGUAGES[code]
        self.gettext = translations.gettext
        self.ngettext = translations.ngettext

    def number(self, value: float, digits: int = 0) -> str:
        """Return a figure with ``digits`` decimals at most."""
        return str(format_decimal(round(value, digits), locale=self.code))

    def percent(self, share: float) -> str:
        """Return a share of 0-1 in percent. What is not complete never shows as 100 %."""
        return str(format_percent(int(share * 100) / 100, locale=self.code))

    def size(self, value_bytes: float) -> str:
        """Return a size with a binary unit, as the API writes it in what it says."""
        unit = 0
        while value_bytes >= 1024 and unit < len(_UNITS) - 1:
            value_bytes, unit = value_bytes / 1024, unit + 1
        return f"{self.number(value_bytes, 1 if unit > 1 else 0)} {_UNITS[unit]}"

    def speed(self, value_bps: float) -> str:
        """Return bytes per second."""
        return f"{self.size(value_bps)}/s"

    def duration(self, seconds: float) -> str:
        """Return a duration with its two largest units."""
        left = int(seconds)
        parts: list[str] = []
        for divisor, text in ((86400, self.gettext("%d d")), (3600, self.gettext("%d h")), (60, self.gettext("%d min"))):
            if left >= divisor or parts:
                parts.append(text % (left // divisor))
                left %= divisor
        parts.append(self.gettext("%d s") % left)
        return " ".join(parts[:2])


@cache
def language(code: str) -> Language:
    """Return a language by its code. Raises KeyError for one that has no catalogue."""
    if code not in LANGUAGES:
        raise KeyError(code)
    if code == SOURCE_LANGUAGE:
        return Language(code, NullTranslations())
    return Language(code, _read(LOCALE_DIR / code / "LC_MESSAGES" / "dashboards.po", code))


def _read(path: Path, code: str) -> Translations:
    compiled = io.BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=code))
    compiled.seek(0)
    return Translations(compiled)


def choose(chosen: str | None, accept_language: str | None) -> Language:
    """Return the language to use: what the user chose, else what the browser prefers, else English."""
    if chosen in LANGUAGES:
        return language(chosen)
    preferred = [part.split(";")[0].strip().replace("-", "_") for part in (accept_language or "").split(",")]
    return language((negotiate_locale([p for p in preferred if p], list(LANGUAGES), sep="_") or SOURCE_LANGUAGE).split("_")[0])
