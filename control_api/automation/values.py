"""What the value of an option may be: its type as the argument specs have it, and the rule of ``variables.yml``."""

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from control_api.kit.wire import MODEL_ID, MODEL_ID_CHARS

Spec = Mapping[str, Any]

AT_MOST = 64
TEXT_LENGTH = 256

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT = r"(?::[0-9]{1,5})?"
# Without a password: what is stored of a host or a job is read by whoever may look at it.
_PROXY = re.compile(rf"(?:https?://{_HOST}{_PORT}/?)?")
_URL = re.compile(rf"(?:https?://{_HOST}{_PORT}(?:/[A-Za-z0-9._~/-]{{0,512}})?)?")
_HOSTS = re.compile(r"(?:[A-Za-z0-9.*:/_\[\]-]{1,255}(?:,[A-Za-z0-9.*:/_\[\]-]{1,255}){0,127})?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,62}")
_VERSION = re.compile(r"(?:[0-9]{3}(?:\.[0-9]{1,4}){0,2})?")
_MODEL = re.compile(MODEL_ID)
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._/ -]{0,62}")
_FILE = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}){1,16}|")
_FOLDERS = ("/opt", "/srv", "/var/lib", "/data", "/mnt")
_PROGRAM = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}){1,16}|[a-z][a-z0-9.]{0,31}|")
_SYSCTL = re.compile(r"[a-z0-9_-]+(?:[./][A-Za-z0-9_-]+){1,8}")


class ValueProblem(Exception):
    """What is wrong with one value, and of which field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def check_type(spec: Spec, value: Any, field: str) -> None:
    """Raise ``ValueProblem`` unless a value is of the type, and one of the choices, that an argument spec names."""
    kind = spec.get("type", "str")
    if kind in _TYPES and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool")):
        raise ValueProblem(field, f"must be {kind}, not {type(value).__name__}")
    choices = spec.get("choices")
    if choices and any(part not in choices for part in (value if isinstance(value, list) else [value])):
        raise ValueProblem(field, f"must be one of {', '.join(map(str, choices))}")
    if isinstance(value, list):
        for index, element in enumerate(value):
            element_spec = {**spec, "type": spec.get("elements") or "raw", "elements": None, "choices": None}
            check_type(element_spec, element, f"{field}.{index}")
    elif isinstance(value, dict) and (options := spec.get("options")):
        _check_options(options, value, field)


def _check_options(options: Mapping[str, Spec], value: Mapping[str, Any], field: str) -> None:
    for name, part in value.items():
        if name not in options:
            raise ValueProblem(f"{field}.{name}", f"is unknown; known: {', '.join(options)}")
        check_type(options[name], part, f"{field}.{name}")
    if missing := [name for name, spec in options.items() if spec.get("required") and name not in value]:
        raise ValueProblem(f"{field}.{missing[0]}", "is required")


def check_rule(rule: Mapping[str, Any], value: Any, field: str) -> None:
    """Raise ``ValueProblem`` unless a value of the right type fits the rule of its option."""
    if isinstance(value, list):
        if len(value) > (limit := rule.get("at_most", AT_MOST)):
            raise ValueProblem(field, f"has {len(value)} entries; at most {limit} are allowed")
        for index, element in enumerate(value):
            check_rule(rule, element, f"{field}.{index}")
        return
    if between := rule.get("between"):
        if not between[0] <= value <= between[1]:
            raise ValueProblem(field, f"must be {describe(rule)}")
    elif (kind := rule.get("is", "any")) != "any" and not _KINDS[kind][1](value):
        raise ValueProblem(field, f"must be {describe(rule)}")


def describe(rule: Mapping[str, Any]) -> str:
    """Say in words what a rule lets through; empty: nothing beyond the type."""
    if between := rule.get("between"):
        return f"{between[0]} to {between[1]}"
    kind = rule.get("is", "any")
    number = f"at most {rule['at_most']}, each " if "at_most" in rule else ""
    return "" if kind == "any" else number + _KINDS[kind][0]


def is_bounded(spec: Spec, rule: Mapping[str, Any]) -> bool:
    """Tell whether type and rule together leave a value no room to become anything else."""
    return spec.get("type") == "bool" or bool(spec.get("choices")) or "between" in rule or rule.get("is", "any") != "any"


def kinds() -> frozenset[str]:
    """Return what a rule may say after ``is``."""
    return frozenset({"any", *_KINDS})


def _whole(pattern: re.Pattern[str], length: int = TEXT_LENGTH) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and len(value) <= length and pattern.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    """Tell whether nothing in a text ends a line, hides, or turns text around for whoever reads it."""
    categories = {unicodedata.category(character) for character in value[: TEXT_LENGTH + 1]}
    return len(value) <= TEXT_LENGTH and not any(one[0] == "C" or one in ("Zl", "Zp") for one in categories)


def _is_folder(value: Any) -> bool:
    return _whole(_FILE)(value) and value.startswith(tuple(f"{folder}/" for folder in _FOLDERS))


def _is_network(value: Any) -> bool:
    try:
        # A mask of dots is one that not everybody reads.
        written = isinstance(value, str) and "%" not in value and "." not in value.partition("/")[2]
        return written and bool(ipaddress.ip_network(value, strict=False))
    except ValueError:
        return False


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and "/" not in value and _is_network(value)


_is_hosts = _whole(_HOSTS, 4096)
_is_proxy = _whole(_PROXY, 512)


def _is_proxies(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in _PROXIES and (_is_hosts(part) if name == "no_proxy" else _is_proxy(part)) for name, part in value.items()
    )


def _is_sysctl(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and _SYSCTL.fullmatch(name) and isinstance(part, int | str) and _is_text(str(part))
        for name, part in value.items()
    )


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "text": (f"at most {TEXT_LENGTH} characters, none a control character or one that hides or turns text", _is_text),
    "proxies": (f"`{'`, `'.join(_PROXIES)}`; the first two like `http://proxy.example.org:3128`, no password", _is_proxies),
    "hosts": ("names, addresses and networks with commas between them", _is_hosts),
    "network": ("an address or a network like `10.0.0.0/24`", _is_network),
    "address": ("an address", _is_address),
    "version": ("a version or its beginning like `580.105.08`, or empty", _whole(_VERSION)),
    "model": ("the id of a model like `gpt-oss:20b`", lambda value: len(value) <= MODEL_ID_CHARS and _whole(_MODEL)(value)),
    "tag": ("a tag like `site:tokyo`", _whole(_TAG)),
    "name": ("at most 63 letters, digits and `. _ -`, beginning with a letter or a digit", _whole(_NAME)),
    "user": ("the name of a system user, not `root`", lambda value: value != "root" and _whole(_USER)(value)),
    "folder": (f"a path of plain names below {', '.join(_FOLDERS)}", _is_folder),
    "file": ("an absolute path of plain names, or empty", _whole(_FILE)),
    "program": ("a command or an absolute path of plain names, or empty", _whole(_PROGRAM)),
    "url": ("a URL like `https://mirror.example.org/path`, or empty", _whole(_URL, 1024)),
    "sysctl": ("keys like `vm.swappiness`, each with a number or a line of text", _is_sysctl),
}
