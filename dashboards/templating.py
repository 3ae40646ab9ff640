"""Templates: one Jinja environment per language, escaping everything, with our icons, badges and figures in reach."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dashboards.components import status
from dashboards.components.icons import icon
from dashboards.i18n import LANGUAGES, Language, language

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment(code: str) -> Environment:
    words = language(code)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_callables(words.gettext, words.ngettext, newstyle=True)  # type: ignore[attr-defined]
    environment.globals |= {"icon": icon, "status": status, "words": words, "languages": LANGUAGES}
    return environment


def render(name: str, words: Language, **context: Any) -> Markup:
    """Return a template in a language as markup. Raises UndefinedError for a name that the context lacks."""
    return Markup(_environment(words.code).get_template(name).render(**context))  # noqa: S704 - the template escapes
