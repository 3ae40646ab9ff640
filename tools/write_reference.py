"""Writes ``docs/reference/settings.md`` from the settings, and who may set what into ``docs/reference/role-variables.md``."""

import re
from pathlib import Path

from control_api.automation.values import describe
from control_api.automation.variables import VariableRules
from control_api.settings import Settings

PROJECT = Path(__file__).parents[1]
TARGET = PROJECT / "docs/reference/settings.md"
VARIABLES = PROJECT / "docs/reference/role-variables.md"
HEAD = """# Settings of the control plane

Every process reads its settings from the environment once, at start. `muster doctor` says what is wrong with them.
A setting may also be a file in `MUSTER_SECRETS_DIR`, e.g. `muster_routing_key`, so that secrets stay out of the environment.
This page is written by `make reference`.

| variable | default | |
|---|---|---|
"""
SHOWN = {
    "state_dir": "~/.local/state/muster",
    "cache_dir": "~/.cache/muster",
    "project_dir": "the checkout",
    "node_networks": "none",
    "router_cors_origins": "none",
    "run_dir": "on tmpfs",
}
# The columns that this program fills in, between those that people write.
BEFORE, AFTER = ["variable", "type", "default"], ["meaning"]
FILLED = ["class", "controller", "value"]


def rows() -> list[str]:
    """Return one row for each setting."""
    found = []
    for name, field in Settings.model_fields.items():
        default = SHOWN.get(name) or ("unset" if field.default in (None, "") else field.default)
        found.append(f"| `MUSTER_{name.upper()}` | `{default}` | {field.description} |")
    return found


def with_classes(page: str) -> str:
    """Return the reference of variables with class and value of each option that has one, as ``variables.yml`` says."""
    rules = VariableRules.load(PROJECT)
    return "\n".join(_row(line, rules) for line in page.split("\n"))


def _row(line: str, rules: VariableRules) -> str:
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)][1:-1]
    if not line.startswith("|") or len(cells) not in (4, 7):
        return line
    own = [*cells[:3], cells[-1]]
    if own == [*BEFORE, *AFTER]:
        filled = FILLED
    elif set(cells[0]) == {"-"}:
        return "|" + "---|" * 7
    else:
        filled = _filled(cells[0].strip("`"), rules)
    return "| " + " | ".join([*own[:3], *filled, own[3]]) + " |"


def _filled(name: str, rules: VariableRules) -> list[str]:
    option = rules.options.get(name)
    if option is None:
        return ["site", "", ""]
    return [option.kind, "yes" if option.controller else "", describe(option.rule)]


if __name__ == "__main__":
    TARGET.write_text(HEAD + "\n".join(rows()) + "\n")
    VARIABLES.write_text(with_classes(VARIABLES.read_text()))
