"""Languages: the Japanese catalogue is complete, figures are written as the language writes them."""

import re
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import dashboards
from dashboards.i18n import LOCALE_DIR, choose, language

ROOT = Path(dashboards.__file__).parent
METHODS = [("**.py", "python"), ("templates/**.html", "jinja2.ext:babel_extract")]
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "N_": None, "text": None}
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]")


def used() -> set[str]:
    found = extract_from_dir(str(ROOT), METHODS, keywords=KEYWORDS)
    return {message if isinstance(message, str) else message[0] for _, _, message, _, _ in found}


def test_the_japanese_catalogue_holds_what_is_shown_and_nothing_else() -> None:
    with (LOCALE_DIR / "ja" / "LC_MESSAGES" / "dashboards.po").open("rb") as file:
        catalogue = read_po(file, locale="ja")
    translated = {}
    for message in catalogue:
        key = message.id if isinstance(message.id, str) else message.id[0]
        text = message.string if isinstance(message.string, str) else message.string[0]
        if key and text:
            translated[key] = text
    assert used() - set(translated) == set(), "not translated"
    assert set(translated) - used() == set(), "not used any more"
    for key, text in translated.items():
        assert sorted(PLACEHOLDER.findall(key)) == sorted(PLACEHOLDER.findall(text)), key


@pytest.mark.parametrize(
    ("chosen", "accepted", "expected"),
    [
        (None, None, "en"),
        (None, "ja-JP,ja;q=0.9,en;q=0.8", "ja"),
        (None, "en-GB,en;q=0.9,ja;q=0.1", "en"),
        (None, "de-DE,de;q=0.9", "en"),
        ("ja", "en", "ja"),
        ("en", "ja", "en"),
        ("tlh", "ja", "ja"),
        ("../../etc", None, "en"),
        (None, "%%%;;;,,,\x00", "en"),
    ],
)
def test_the_language_is_the_one_chosen_else_the_browsers(chosen: str | None, accepted: str | None, expected: str) -> None:
    assert choose(chosen, accepted).code == expected


def test_figures_are_written_for_people() -> None:
    english, japanese = language("en"), language("ja")
    assert english.size(0) == "0 B"
    assert english.size(98_362_432) == "93.8 MiB"
    assert english.size(65 << 30) == "65 GiB"
    assert english.speed(112 << 20) == "112 MiB/s"
    assert english.number(4_812_345) == "4,812,345"
    assert english.duration(59) == "59 s"
    assert english.duration(62) == "1 min 2 s"
    assert japanese.duration(3661) == "1 時間 1 分"
    assert english.percent(0.999) == "99%"
    assert english.percent(1.0) == "100%"
