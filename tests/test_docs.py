"""The docs are part of the product: what they list is what there is."""

import re
from pathlib import Path
from runpy import run_path

import pytest
from typer.testing import CliRunner

from control_api.access import tokens
from control_api.access.schemas import Scope
from control_api.alerts.schemas import AlertKind
from control_api.cli import app
from control_api.settings import Settings

PROJECT = Path(__file__).parents[1]
ROOT_PAGES = [PROJECT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")]
PAGES = [*ROOT_PAGES, *sorted((PROJECT / "docs").rglob("*.md"))]


def test_every_setting_is_documented_with_its_default() -> None:
    text = (PROJECT / "docs/reference/settings.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"| `MUSTER_{name.upper()}` |" in text, name
        assert field.description, f"{name} has no description"
        assert field.description in text, f"docs/reference/settings.md is out of date for {name}"


def test_the_reference_says_who_may_set_which_variable_to_what() -> None:
    page = (PROJECT / "docs/reference/role-variables.md").read_text()
    assert run_path(str(PROJECT / "tools" / "write_reference.py"))["with_classes"](page) == page, "run `make reference`"


def test_every_kind_of_alert_is_documented_with_its_severity() -> None:
    text = (PROJECT / "docs/reference/alerts.md").read_text()
    documented = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| ([a-z]+) \|", text, re.MULTILINE)
    assert dict(documented) == {str(kind): str(kind.severity) for kind in AlertKind}


def test_the_page_on_security_says_what_every_scope_and_credential_opens() -> None:
    text = (PROJECT / "docs/explanation/security.md").read_text()
    assert re.findall(r"^\| `([a-z]+)` \| .+ \| .+ \|$", text.partition("## Options")[0], re.MULTILINE) == list(Scope)
    code = "".join(path.read_text() for path in (PROJECT / "control_api").rglob("*.py"))
    prefixes = set(re.findall(r'new_token\("([a-z]+)"', code))
    audiences = {value for name, value in vars(tokens).items() if name.endswith("_AUDIENCE")}
    assert len(prefixes) > 4 and len(audiences) > 2
    for shown in {f"`{prefix}_…`" for prefix in prefixes} | {f"`{audience}`" for audience in audiences}:
        assert re.search(rf"^\| .+{shown}", text, re.MULTILINE), shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_commands_in_the_docs_exist(page: Path) -> None:
    for command in set(re.findall(r"^(?:\.venv/bin/)?muster ((?:[a-z-]+ ?){1,2})", page.read_text(), re.MULTILINE)):
        words = command.split()
        result = CliRunner().invoke(app, [*words, "--help"])
        if result.exit_code != 0:
            result = CliRunner().invoke(app, [words[0], "--help"])
        assert result.exit_code == 0, f"{page.name}: muster {command}"


def test_every_decision_has_the_same_headings() -> None:
    for record in (PROJECT / "docs/decisions").glob("*.md"):
        headings = re.findall(r"^## (.+)$", record.read_text(), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Alternatives", "References"], record.name
