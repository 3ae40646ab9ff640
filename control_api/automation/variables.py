"""Which variables a caller may set: the public options of the roles, of the right type. Nothing else reaches Ansible."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from control_api.errors import BadInput

MAX_BYTES = 64 << 10
MAX_DEPTH = 16

Spec = Mapping[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}


class _VariableError(Exception):
    """What is wrong with one field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class VariableRules:
    """Checks extra variables and host variables.

    Parameters
    ----------
    options: the spec of each variable that may be set.
    site_only: variables that exist but are not to be set through the API; so are secrets (``no_log``), which could be read
        in the job, and paths on the controller (``type: path``), whose files the caller could get at.
    """

    def __init__(self, options: Mapping[str, Spec], site_only: frozenset[str] = frozenset()) -> None:
        self._site_only = site_only | {
            name for name, spec in options.items() if spec.get("no_log") or spec.get("type") == "path"
        }
        self._options = {name: spec for name, spec in options.items() if name not in self._site_only}

    @classmethod
    def load(cls, project_dir: Path) -> "VariableRules":
        """Read the argument specs of a project's roles, and the variables of the playbooks."""
        own = yaml.safe_load(Path(__file__).with_name("variables.yml").read_text())
        options: dict[str, Spec] = dict(own["playbooks"])
        for path in sorted(project_dir.glob("roles/*/meta/argument_specs.yml")):
            if path.parts[-3] in own["closed_roles"]:
                continue
            for entry_point in (yaml.safe_load(path.read_text()) or {}).get("argument_specs", {}).values():
                options |= {name: spec for name, spec in entry_point.get("options", {}).items() if not name.startswith("_")}
        return cls(options, frozenset(own["site_only"]))

    def check(self, variables: Mapping[str, Any], field: str = "variables") -> None:
        """Raise ``BadInput`` naming the field unless every variable is a public option with a fitting value."""
        try:
            _check_size(variables, field)
            for name, value in variables.items():
                _check_value(self._spec(name, f"{field}.{name}"), value, f"{field}.{name}")
        except _VariableError as problem:
            details = [{"field": problem.field, "message": problem.message}]
            raise BadInput(f"{problem.field}: {problem.message}", code="bad_variable", details=details) from None

    def _spec(self, name: str, field: str) -> Spec:
        if spec := self._options.get(name):
            return spec
        if name in self._site_only:
            raise _VariableError(field, "is the site's to set: put it into group_vars or host_vars of MUSTER_SITE_DIR")
        if name.startswith("ansible_"):
            raise _VariableError(field, "configures Ansible itself and cannot be set; connection data are fields of the host")
        if name.startswith("_"):
            raise _VariableError(field, "is private to a role")
        raise _VariableError(field, "is not an option of any role")


def _check_size(variables: Mapping[str, Any], field: str) -> None:
    for depth, value in _walk(variables):
        if depth > MAX_DEPTH:
            raise _VariableError(field, f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, str) and "\0" in value:
            raise _VariableError(field, "holds a NUL byte")
        if isinstance(value, float) and not math.isfinite(value):
            raise _VariableError(field, "holds a number that is not finite")
    size = len(json.dumps(variables).encode())
    if size > MAX_BYTES:
        raise _VariableError(field, f"takes {size} bytes; at most {MAX_BYTES} are allowed")


def _walk(root: Any) -> Iterator[tuple[int, Any]]:
    """Yield every key and value with its depth; without recursion, since depth is the caller's choice."""
    todo = [(0, root)]
    while todo:
        depth, value = todo.pop()
        yield depth, value
        if depth > MAX_DEPTH:
            continue
        if isinstance(value, Mapping):
            todo += [(depth + 1, part) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            todo += [(depth + 1, part) for part in value]


def _check_value(spec: Spec, value: Any, field: str) -> None:
    kind = spec.get("type", "str")
    if kind in _TYPES and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool")):
        raise _VariableError(field, f"must be {kind}, not {type(value).__name__}")
    choices = spec.get("choices")
    if choices and any(part not in choices for part in (value if isinstance(value, list) else [value])):
        raise _VariableError(field, f"must be one of {', '.join(map(str, choices))}")
    if isinstance(value, list):
        for index, element in enumerate(value):
            _check_value(
                {**spec, "type": spec.get("elements") or "raw", "elements": None, "choices": None}, element, f"{field}.{index}"
            )
    elif isinstance(value, dict) and (options := spec.get("options")):
        _check_options(options, value, field)


def _check_options(options: Mapping[str, Spec], value: Mapping[str, Any], field: str) -> None:
    for name, part in value.items():
        if name not in options:
            raise _VariableError(f"{field}.{name}", f"is unknown; known: {', '.join(options)}")
        _check_value(options[name], part, f"{field}.{name}")
    if missing := [name for name, spec in options.items() if spec.get("required") and name not in value]:
        raise _VariableError(f"{field}.{missing[0]}", "is required")
