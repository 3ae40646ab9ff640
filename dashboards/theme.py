"""The look: colours, spacing and type in one place, as CSS variables for our markup and as a theme for Panel's components.

Every pair of text and ground has a contrast of at least 7:1 (WCAG AAA); the tests compute it.
"""

from dataclasses import asdict, dataclass
from typing import Any

FONT = 'system-ui, -apple-system, "Segoe UI", "Noto Sans", "Hiragino Sans", "Yu Gothic UI", "Noto Sans CJK JP", sans-serif'
FONT_MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Noto Sans Mono CJK JP", monospace'
RADIUS_PX = 10


@dataclass(frozen=True)
class Scheme:
    """Colours of one scheme. ``*_ground`` is what the text of that name stands on."""

    ground: str
    surface: str
    sunken: str
    line: str
    text: str
    muted: str
    brand: str
    brand_strong: str
    on_brand: str
    brand_ground: str
    ok: str
    ok_ground: str
    info: str
    info_ground: str
    warn: str
    warn_ground: str
    bad: str
    bad_ground: str
    idle: str
    idle_ground: str
    code_ground: str
    code_text: str
    shadow: str


LIGHT = Scheme(
    ground="#f5f6f9",
    surface="#ffffff",
    sunken="#eef0f4",
    line="#d6dbe3",
    text="#131a24",
    muted="#475161",
    brand="#4338ca",
    brand_strong="#3730a3",
    on_brand="#ffffff",
    brand_ground="#eceafd",
    ok="#14532d",
    ok_ground="#dcfce7",
    info="#1e3a8a",
    info_ground="#dbeafe",
    warn="#6b3a0b",
    warn_ground="#fef0c3",
    bad="#7f1d1d",
    bad_ground="#fee4e2",
    idle="#374151",
    idle_ground="#e8ebf0",
    code_ground="#10151d",
    code_text="#dfe5ee",
    shadow="0 1px 2px rgb(16 24 40 / 6%), 0 1px 3px rgb(16 24 40 / 8%)",
)

DARK = Scheme(
    ground="#0d1117",
    surface="#151b23",
    sunken="#0f141b",
    line="#2e3744",
    text="#eef2f7",
    muted="#aeb8c5",
    brand="#b3bcff",
    brand_strong="#ccd2ff",
    on_brand="#12123a",
    brand_ground="#23264f",
    ok="#86efac",
    ok_ground="#12301f",
    info="#a4ccfe",
    info_ground="#142848",
    warn="#fcd34d",
    warn_ground="#33270b",
    bad="#fdb1ab",
    bad_ground="#3d1616",
    idle="#c6ced9",
    idle_ground="#28303b",
    code_ground="#090c11",
    code_text="#dfe5ee",
    shadow="0 1px 2px rgb(0 0 0 / 40%)",
)

SCHEMES = {"light": LIGHT, "dark": DARK}


def css_variables() -> str:
    """Return the style sheet that defines both schemes; ``data-theme`` on the document chooses."""
    blocks = [
        f':root[data-theme="{name}"] {{ color-scheme: {name}; {_declarations(scheme)} }}' for name, scheme in SCHEMES.items()
    ]
    return f":root {{ --font: {FONT}; --mono: {FONT_MONO}; --radius: {RADIUS_PX}px; }}\n" + "\n".join(blocks)


def _declarations(scheme: Scheme) -> str:
    return " ".join(f"--{name.replace('_', '-')}: {value};" for name, value in asdict(scheme).items())


def component_theme() -> dict[str, Any]:
    """Return the same look as a theme of Panel's Material components."""
    return {name: _palette(scheme) | _SHAPE for name, scheme in SCHEMES.items()}


_SHAPE: dict[str, Any] = {
    "typography": {"fontFamily": FONT, "fontSize": 14, "button": {"textTransform": "none", "fontWeight": 600}},
    "shape": {"borderRadius": RADIUS_PX},
    "components": {
        "MuiAppBar": {
            "defaultProps": {"elevation": 0, "color": "inherit"},
            "styleOverrides": {
                "root": {
                    "backgroundColor": "var(--surface) !important",
                    "backgroundImage": "none",
                    "color": "var(--text) !important",
                    "borderBottom": "1px solid var(--line)",
                    "borderRadius": 0,
                }
            },
        },
        "MuiButton": {"defaultProps": {"disableElevation": True}},
        "MuiPaper": {"styleOverrides": {"root": {"backgroundImage": "none"}}},
        "MuiButtonBase": {
            "defaultProps": {"disableRipple": True},
            "styleOverrides": {"root": {"&.Mui-focusVisible": {"outline": "3px solid var(--brand)", "outlineOffset": "2px"}}},
        },
    },
}


def _palette(scheme: Scheme) -> dict[str, Any]:
    return {
        "palette": {
            "primary": {"main": scheme.brand, "dark": scheme.brand_strong, "contrastText": scheme.on_brand},
            "error": {"main": scheme.bad, "contrastText": scheme.bad_ground},
            "success": {"main": scheme.ok, "contrastText": scheme.ok_ground},
            "warning": {"main": scheme.warn, "contrastText": scheme.warn_ground},
            "info": {"main": scheme.info, "contrastText": scheme.info_ground},
            "background": {"default": scheme.ground, "paper": scheme.surface},
            "text": {"primary": scheme.text, "secondary": scheme.muted},
            "divider": scheme.line,
        }
    }
