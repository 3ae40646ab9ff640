"""Contrast of the colours, by the formula of WCAG 2."""

import re
from pathlib import Path

import pytest

from control_api.client.schemas import Acceptance
from dashboards import theme
from dashboards.components import status, view

AAA = 7.0
STATES = ("ok", "info", "warn", "bad", "idle")
PAIRS = [
    *((text, ground) for text in ("text", "muted") for ground in ("ground", "surface", "sunken")),
    *((state, f"{state}_ground") for state in STATES),
    ("on_brand", "brand"),
    ("on_brand", "brand_strong"),
    ("brand_strong", "brand_ground"),
    ("text", "brand_ground"),
    ("brand", "surface"),
    ("code_text", "code_ground"),
    ("bad", "surface"),
]


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", theme.SCHEMES)
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_can_be_read(scheme: str, text: str, ground: str) -> None:
    colours = theme.SCHEMES[scheme]
    ratio = contrast(getattr(colours, text), getattr(colours, ground))
    assert ratio >= AAA, f"{text} on {ground}: {ratio:.2f}"


def test_our_styles_use_only_colours_that_exist() -> None:
    used = set(re.findall(r"var\(--([a-z-]+)\)", view.STYLES))
    defined = set(re.findall(r"--([a-z-]+):", theme.css_variables()))
    assert used and used <= defined


def test_no_style_or_script_names_another_site() -> None:
    root = Path(theme.__file__).parent
    files = [*root.rglob("*.css"), *root.rglob("*.js"), *root.rglob("*.html")]
    for file in files:
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://(?!huggingface\.co)", text), file


@pytest.mark.parametrize("looks", [status.NODE, status.HOST, status.JOB, status.MODEL, status.TASK])
def test_no_two_states_look_the_same(looks: dict[str, status.Look]) -> None:
    assert len({(look.icon, look.label) for look in looks.values()}) == len(looks)


def test_every_state_has_a_look() -> None:
    for looks in (status.NODE, status.HOST, status.JOB, status.MODEL, status.TASK):
        kinds = {type(state) for state in looks}
        assert set(looks) == {state for kind in kinds for state in kind} - {Acceptance.ACCEPTED}
