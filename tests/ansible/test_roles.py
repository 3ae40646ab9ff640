"""What the roles promise on paper: interface, documentation, lint."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.runs import ROOT

ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def options(role: str) -> dict[str, Any]:
    """Return all options of all entry points of a role."""
    document = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
    return {name: spec for entry in document["argument_specs"].values() for name, spec in entry.get("options", {}).items()}


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_equal_defaults(role: str) -> None:
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())

    assert {name: spec.get("default") for name, spec in options(role).items()} == defaults


@pytest.mark.parametrize("role", ROLES)
def test_every_option_is_described_and_carries_the_prefix_of_the_role(role: str) -> None:
    for name, spec in options(role).items():
        assert name.startswith(f"{role}_")
        assert spec["description"], name
        assert spec["type"], name


@pytest.mark.parametrize("role", ROLES)
def test_every_option_is_used(role: str) -> None:
    folder = ROOT / "roles" / role
    used = "".join(
        path.read_text() for name in ("tasks", "templates", "vars") for path in (folder / name).rglob("*") if path.is_file()
    )

    assert [name for name in options(role) if not re.search(rf"\b{name}\b", used)] == []


def test_the_reference_lists_every_option_with_its_default() -> None:
    text = (ROOT / "docs" / "reference" / "role-variables.md").read_text()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in text.splitlines() if line.startswith("| `")]
    documented = {row[1].strip("`"): row[3] for row in rows}

    of_playbooks = yaml.safe_load((ROOT / "control_api" / "automation" / "variables.yml").read_text())["playbooks"]
    assert documented.keys() >= of_playbooks.keys()
    of_roles = {name: default for name, default in documented.items() if name not in of_playbooks}
    assert of_roles == {name: _shown(spec.get("default")) for role in ROLES for name, spec in options(role).items()}


def test_the_reference_lists_every_playbook() -> None:
    text = (ROOT / "docs" / "reference" / "playbooks.md").read_text()

    assert sorted(re.findall(r"^## `(\w+\.yml)`", text, re.MULTILINE)) == sorted(
        path.name for path in (ROOT / "playbooks").glob("*.yml")
    )


@pytest.mark.parametrize("name", ["muster_node", "muster_completion", "muster_models"])
def test_actions_document_every_argument(name: str) -> None:
    documented = yaml.safe_load(_constant(ROOT / "plugins" / "modules" / f"{name}.py", "DOCUMENTATION"))["options"]
    source = (ROOT / "plugins" / "action" / f"{name}.py").read_text()
    accepted = set(re.findall(r'^        "(\w+)": \{"type"', source, re.MULTILINE)) | {"api_url", "ca_bundle"}

    assert set(documented) == accepted


def _shown(default: Any) -> str:
    """Return a default as a cell of the table."""
    text = default if isinstance(default, str) and default else json.dumps(default)
    return "`" + text.replace("|", "\\|") + "`"


def _constant(path: Path, name: str) -> str:
    scope: dict[str, Any] = {}
    exec(compile(path.read_text(), path, "exec"), scope)
    return str(scope[name])
