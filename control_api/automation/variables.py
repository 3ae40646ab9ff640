"""Which variables a caller may set, and to what: public options of the roles, by class and value. No other reaches Ansible."""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from control_api.access.schemas import Scope
from control_api.automation.values import Spec, ValueProblem, check_rule, check_type
from control_api.errors import BadInput, Forbidden, StartupError
from control_api.kit import ownyaml

MAX_BYTES = 64 << 10
MAX_DEPTH = 16


class OptionClass(StrEnum):
    """Who may set an option through the API: whoever starts jobs, admins, nobody."""

    OPEN = "open"
    ADMIN = "admin"
    SITE = "site"


@dataclass(frozen=True)
class Option:
    """What may be set.

    Parameters
    ----------
    spec: from the argument specs: type, choices.
    rule: from ``variables.yml``: what its value may be.
    controller: whether the machine that runs the jobs takes it too.
    """

    spec: Spec
    kind: OptionClass
    rule: Mapping[str, Any] = field(default_factory=dict)
    controller: bool = False


class VariableRules:
    """Checks extra variables and host variables.

    Parameters
    ----------
    options: by name. Secrets (``no_log``), which could be read in the job, and paths on the controller (``type: path``),
        whose files the caller could get at, are the site's whatever their class.
    own_host: what ``muster up`` sets on this machine's own host beside what the controller takes.
    """

    def __init__(self, options: Mapping[str, Option], own_host: Mapping[str, Any] | None = None) -> None:
        self._options = options
        self._own_host = own_host or {}

    @classmethod
    def load(cls, project_dir: Path) -> "VariableRules":
        """Read the argument specs of a project's roles, the variables of the playbooks, and the rules for both.

        A project with roles of its own has a ``variables.yml`` for them; options without a class are the site's.
        Raises ``StartupError`` for a rule of nothing.
        """
        own = _read(Path(__file__).with_name("variables.yml"))
        theirs = _read(project_dir / "variables.yml")
        rules = own["options"] | theirs.get("options", {})
        specs: dict[str, Spec] = dict(own["playbooks"])
        for path in sorted(project_dir.glob("roles/*/meta/argument_specs.yml")):
            if path.parts[-3] not in own["closed_roles"]:
                specs |= _public_options(path)
        return cls({name: _option(name, spec, rules.get(name, {})) for name, spec in specs.items()}, own["own_host"])

    @property
    def options(self) -> Mapping[str, Option]:
        """All that there are, by name."""
        return self._options

    @property
    def own_host(self) -> Mapping[str, Any]:
        """What ``muster up`` sets on this machine's own host beside what the controller takes."""
        return self._own_host

    def check(
        self,
        variables: Mapping[str, Any],
        field: str = "variables",
        *,
        scopes: Collection[Scope],
        before: Mapping[str, Any] | None = None,
    ) -> None:
        """Raise naming the field unless every variable that is set, changed or taken away is the caller's to set, and fits.

        Parameters
        ----------
        scopes: of whoever asks now.
        before: what is stored; what stays as it is needs no rights. What an admin alone may set, only admins take away.

        Raises ``Forbidden`` for what an admin may set and ``BadInput`` for everything else.
        """
        before = before or {}
        with _named():
            _check_size(variables, field)
            for name, value in variables.items():
                if name not in before or not _same(value, before[name]):
                    option = self._option(name, f"{field}.{name}")
                    self._check_class(option, scopes, f"{field}.{name}")
                    _check_value(option, value, f"{field}.{name}")
            for name in before.keys() - variables.keys():
                stored = self._options.get(name)
                kind = stored.kind if stored else OptionClass.SITE
                if kind is not OptionClass.OPEN and Scope.ADMIN not in scopes:
                    message = f"is of class {kind} and would be taken away: only admins do that; send it as it is stored"
                    raise _NotTheirs(f"{field}.{name}", message)

    def check_stored(self, variables: Mapping[str, Any], field: str, *, own_host: bool = False) -> None:
        """Raise ``BadInput`` if anything that was stored may not be given to a run: the rules of today hold for it, too.

        Parameters
        ----------
        own_host: they are of the host that ``muster up`` made of its own machine.
        """
        with _named():
            for name, value in variables.items():
                if own_host and self._is_own(name, value):
                    continue
                option = self._option(name, f"{field}.{name}")
                self._check_class(option, {Scope.ADMIN}, f"{field}.{name}")
                _check_value(option, value, f"{field}.{name}")

    def beyond_controller(self, variables: Mapping[str, Any], *, own_host: bool = False) -> list[str]:
        """Return the names of those variables that the machine which runs the jobs does not take."""
        return sorted(
            name
            for name, value in variables.items()
            if not (own_host and self._is_own(name, value))
            and not ((option := self._options.get(name)) and option.controller and option.kind is OptionClass.OPEN)
        )

    def _is_own(self, name: str, value: Any) -> bool:
        return name in self._own_host and _same(value, self._own_host[name])

    def _option(self, name: str, field: str) -> Option:
        if option := self._options.get(name):
            return option
        if name.startswith("ansible_"):
            raise ValueProblem(field, "configures Ansible itself and cannot be set; connection data are fields of the host")
        if name.startswith("_"):
            raise ValueProblem(field, "is private to a role")
        raise ValueProblem(field, "is not an option of any role")

    def _check_class(self, option: Option, scopes: Collection[Scope], field: str) -> None:
        if option.kind is OptionClass.SITE:
            where = "put it into group_vars or host_vars of MUSTER_SITE_DIR, or run ansible-playbook with it"
            raise ValueProblem(field, f"is of class site, which nobody sets through the API: {where}")
        if option.kind is OptionClass.ADMIN and Scope.ADMIN not in scopes:
            where = "ask an admin, or put it into group_vars or host_vars of MUSTER_SITE_DIR"
            raise _NotTheirs(field, f"is of class admin, which admins set: {where}")


class _NotTheirs(ValueProblem):
    """A value that somebody else might set."""


@contextmanager
def _named() -> Iterator[None]:
    """Turn problems of values into errors that callers see."""
    try:
        yield
    except ValueProblem as problem:
        details = [{"field": problem.field, "message": problem.message}]
        message = f"{problem.field}: {problem.message}"
        if isinstance(problem, _NotTheirs):
            raise Forbidden(message, code="variable_not_yours", details=details) from None
        raise BadInput(message, code="bad_variable", details=details) from None


def _read(path: Path) -> dict[str, Any]:
    return (ownyaml.read_file(path) or {}) if path.is_file() else {}


def _public_options(path: Path) -> dict[str, Spec]:
    entry_points = _read(path).get("argument_specs", {}).values()
    return {name: spec for entry in entry_points for name, spec in entry.get("options", {}).items() if not name.startswith("_")}


def _option(name: str, spec: Spec, rule: Mapping[str, Any]) -> Option:
    secret = spec.get("no_log") or spec.get("type") == "path"
    try:
        kind = OptionClass.SITE if secret else OptionClass(rule.get("class", OptionClass.SITE))
    except ValueError as error:
        raise StartupError(f"variables.yml: {name}: {error}", code="bad_variable_rule") from error
    return Option(spec, kind, rule, controller=bool(rule.get("controller")))


def _check_value(option: Option, value: Any, field: str) -> None:
    check_type(option.spec, value, field)
    check_rule(option.rule, value, field)


def _same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same as Ansible would see them: 1 and true are not."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _check_size(variables: Mapping[str, Any], field: str) -> None:
    for depth, value in _walk(variables, field):
        if depth > MAX_DEPTH:
            raise ValueProblem(field, f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, str) and "\0" in value:
            raise ValueProblem(field, "holds a NUL byte")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueProblem(field, "holds a number that is not finite")
        if isinstance(value, int) and abs(value) >= 1 << 63:
            raise ValueProblem(field, "holds a number of more than 64 bits")
        if not isinstance(value, str | int | float | list | Mapping | None):
            raise ValueProblem(field, f"holds a {type(value).__name__}, which is nothing that JSON has")
        if isinstance(value, Mapping) and not all(isinstance(name, str) for name in value):
            raise ValueProblem(field, "has a name that is no text")
    size = len(json.dumps(variables).encode())
    if size > MAX_BYTES:
        raise ValueProblem(field, f"takes {size} bytes; at most {MAX_BYTES} are allowed")


def _walk(root: Any, field: str) -> Iterator[tuple[int, Any]]:
    """Yield every key and value with its depth; without recursion, since depth is the caller's choice.

    Raises ``ValueProblem`` as soon as there are more than fit into ``MAX_BYTES``, before they are looked at.
    """
    todo = [(0, root)]
    seen = 0
    while todo:
        depth, value = todo.pop()
        yield depth, value
        if depth > MAX_DEPTH:
            continue
        seen += len(value) if isinstance(value, Mapping | list) else 0
        if seen > MAX_BYTES:
            raise ValueProblem(field, f"holds more than {MAX_BYTES} values; it may take {MAX_BYTES} bytes in all")
        if isinstance(value, Mapping):
            todo += [(depth + 1, part) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            todo += [(depth + 1, part) for part in value]
