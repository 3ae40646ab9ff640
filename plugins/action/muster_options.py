# SPDX-License-Identifier: GPL-3.0-or-later
# Imports ansible-core, hence the licence of this file. Needs nothing but ansible-core and the standard library.
"""Action `muster_options`: refuse what could be more than a value. Documented in plugins/modules/muster_options.py."""

import ipaddress
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

FOLDERS = ("/opt", "/srv", "/var/lib", "/data", "/mnt")
BACKUP_FOLDERS = (*FOLDERS, "/var/backups", "/backup", "/backups")
# Accounts that hold more than a node may have.
RESERVED_USERS = frozenset({"root", "postgres", "muster-control", "muster-router", "muster-dashboard"})
# What an operator tunes for a server of models. Others of the kernel's settings run programs or switch protections off.
SYSCTL_KEYS = re.compile(
    r"net\.core\.(somaxconn|netdev_max_backlog|optmem_max|[rw]mem_(default|max))"
    r"|net\.ipv4\.(ip_local_port_range|tcp_(congestion_control|fin_timeout|keepalive_(intvl|probes|time)|max_syn_backlog|max_tw_buckets"
    r"|mtu_probing|notsent_lowat|[rw]?mem|slow_start_after_idle|tw_reuse))"
    r"|vm\.(compaction_proactiveness|dirty_(background_)?(bytes|ratio)|max_map_count|min_free_kbytes|nr_hugepages|overcommit_(memory|ratio)"
    r"|swappiness|vfs_cache_pressure|zone_reclaim_mode)"
    r"|fs\.(aio-max-nr|file-max|inotify\.max_(queued_events|user_instances|user_watches)|nr_open)"
    r"|kernel\.(numa_balancing|pid_max|threads-max)"
)

_FLAG = re.compile(r"(?i:true|false|yes|no|on|off|y|n|t|f|1|0)")
_PATH = r"(?:/[0-9A-Za-z_][0-9A-Za-z_.+-]*)+"
_ZONE = r"(?:%[0-9A-Za-z._-]+)?"
_HOST = rf"(?:[0-9A-Za-z_][0-9A-Za-z_.-]*|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+{_ZONE}|\[[0-9A-Fa-f:.]+{_ZONE}\])(?::[0-9]{{1,5}})?"
_REST = r"(?:/[0-9A-Za-z_./~+%:@=,-]*)?"
_LINE = r"[!-~]*"
_PGP = r"\s*-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[ -~]*\r?\n)*-----END PGP PUBLIC KEY BLOCK-----\s*"
# Kinds whose whole value one pattern says, and how they are called.
PATTERNS: dict[str, tuple[str, str]] = {
    "word": (r"[0-9A-Za-z][0-9A-Za-z._-]{0,62}", "one word of letters, digits, '.', '_' and '-'"),
    "service": (
        r"(?=.{1,63}\Z)[0-9A-Za-z]+(?:[._-][0-9A-Za-z]+)*",
        "the plain name of a service, such as muster-node: letters and digits, with a single '.', '_' or '-' between them",
    ),
    "path": (rf"|/|{_PATH}", "an absolute path on the host, of letters, digits, '.', '_', '+' and '-'"),
    "python": (rf"|{_PATH}|python3(?:\.[0-9]+)?", "an absolute path on the host, or a name such as python3.13"),
    "config_folder": (rf"/etc{_PATH}", "a folder below /etc, such as /etc/muster"),
    "url": (rf"|https?://{_HOST}{_REST}", "an http(s) URL: no user, query, blank or quote"),
    "hosts": (r"(?! )[0-9A-Za-z_.,:/*\[\]% -]*(?<! )", "hosts and networks with commas between them"),
    "version": (r"|[0-9]{3}(?:\.[0-9]{1,4}){0,2}", "a version or its beginning in quotes, such as '580' or '580.105.08'"),
    "secret": (_LINE, "one line of printable ASCII without blanks"),
    "database": (rf"|postgresql\+psycopg://{_LINE}", "a URL that begins with postgresql+psycopg://, without blanks"),
    "public_key": (rf"|https?://{_HOST}{_REST}|{_PGP}", "an armoured public key, or its http(s) URL"),
}
_PROXY = re.compile(rf"|https?://(?:[0-9A-Za-z._~%!&*+,=:-]+@)?{_HOST}/?")
_PROXY_NAMES = re.compile(r"(?:http|https)_proxy|(?:HTTP|HTTPS)_PROXY")
_TAG = re.compile(r"[0-9A-Za-z][0-9A-Za-z:._/ -]{0,62}")
_MODEL = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:/+-]{0,127}")
_SETTING = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SYSCTL_VALUE = re.compile(r"[0-9]{1,19}(?: [0-9]{1,19}){0,2}|[a-z][a-z0-9_]{0,15}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_NAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,254}")
# Never shown, since they may hold a password.
_UNSHOWN = frozenset({"secret", "database", "proxies", "settings"})
_SHOWN_CHARS = 80


def is_printable(text: str) -> bool:
    """Whether text has no control, format or surrogate character and no separator of lines: none that ends a line anywhere."""
    return not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in text)


def problem(kind: Any, value: Any) -> str | None:
    """Return what a value should be if it is not of its kind; kinds are those of the module's documentation."""
    if isinstance(kind, Mapping):
        said = f"a path below {kind['called']} ({json.dumps(kind['below'])}), without '..' and control characters"
        return None if _is_below(value, str(kind["below"])) else said
    if kind in PATTERNS:
        pattern, said = PATTERNS[kind]
        return None if isinstance(value, str) and re.fullmatch(pattern, value) else said
    fits, said = _KINDS[kind]
    return None if fits(value) else said


def problems(kinds: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each value that is not of its kind."""
    found = []
    for name, value in values.items():
        if said := problem(kinds[name], value):
            is_shown = isinstance(kinds[name], Mapping) or kinds[name] not in _UNSHOWN
            found.append(f"{name} must be {said}" + (f", not {_cut(json.dumps(value, default=str))}" if is_shown else ""))
    return found


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, (int, str)) and bool(_FLAG.fullmatch(str(value))))


def _is_count(value: Any, least: int = 0, most: int = 1 << 50) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return False
    return bool(re.fullmatch("[0-9]{1,16}", str(value))) and least <= int(value) <= most


def _is_port(value: Any) -> bool:
    return _is_count(value, 1, 65535)


def _is_user(value: Any) -> bool:
    return isinstance(value, str) and bool(_USER.fullmatch(value)) and value not in RESERVED_USERS


def _is_in(folders: tuple[str, ...]) -> Callable[[Any], bool]:
    patterns = re.compile("|".join(re.escape(folder) + _PATH for folder in folders))
    return lambda value: isinstance(value, str) and bool(patterns.fullmatch(value))


def _is_below(value: Any, base: str) -> bool:
    parent = base.rstrip("/") + "/"
    if not (isinstance(value, str) and parent.startswith("/") and value.startswith(parent) and is_printable(value)):
        return False
    return not {"", ".", ".."} & set(value.removeprefix(parent).split("/"))


def _is_controller_path(value: Any) -> bool:
    return isinstance(value, str) and is_printable(value) and not value.startswith("-")


def _is_address(value: Any) -> bool:
    try:
        return isinstance(value, str) and "%" not in value and bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def _is_source(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if _is_address(re.sub(r"%[0-9A-Za-z._-]+\Z", "", value)) or _NAME.fullmatch(value):
        return True
    address, _, prefix = value.partition("/")
    return _is_address(address) and bool(re.fullmatch("[0-9]{1,3}", prefix))


def _is_proxy(name: Any, value: Any) -> bool:
    if not (isinstance(name, str) and isinstance(value, str)):
        return False
    if name in ("no_proxy", "NO_PROXY"):
        return bool(re.fullmatch(PATTERNS["hosts"][0], value))
    return bool(_PROXY_NAMES.fullmatch(name) and _PROXY.fullmatch(value))


def _is_kernel_setting(name: Any, value: Any) -> bool:
    fits = isinstance(value, (int, str)) and not isinstance(value, bool) and _SYSCTL_VALUE.fullmatch(str(value))
    return isinstance(name, str) and bool(SYSCTL_KEYS.fullmatch(name) and fits)


def _is_setting(name: Any, value: Any) -> bool:
    return isinstance(name, str) and bool(_SETTING.fullmatch(name)) and all(is_printable(text) for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from _texts(list(pair))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)


def _is_list_of(fits: Callable[[Any], Any]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(fits(part) for part in value)


def _is_dict_of(fits: Callable[[Any, Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(fits(name, part) for name, part in value.items())


def _matching(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


# Kinds that take more than a pattern.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "flag": (_is_flag, "true or false"),
    "count": (_is_count, "a whole number from 0 to 2^50"),
    "port": (_is_port, "a whole number from 1 to 65535"),
    "user": (_is_user, f"the name of an account of its own, such as muster, and none of {', '.join(sorted(RESERVED_USERS))}"),
    "folder": (_is_in(FOLDERS), f"a folder below {', '.join(FOLDERS)}, of letters, digits, '.', '_', '+' and '-'"),
    "backup_folder": (
        _is_in(BACKUP_FOLDERS), f"a folder below {', '.join(BACKUP_FOLDERS)}, of letters, digits, '.', '_', '+' and '-'",
    ),
    "controller_path": (_is_controller_path, "a path on the controller without control characters"),
    "address": (_is_address, "an IP address"),
    "sources": (_is_list_of(_is_source), "a list of addresses, networks and names of hosts"),
    "tags": (_is_list_of(_matching(_TAG)), "a list of tags: letters, digits, blanks, ':', '.', '_', '/' and '-'"),
    "models": (_is_list_of(_matching(_MODEL)), "a list of ids of models"),
    "proxies": (
        _is_dict_of(_is_proxy),
        "a dictionary of http_proxy and https_proxy, which are http(s) URLs, and no_proxy, which are hosts",
    ),
    "sysctl": (
        _is_dict_of(_is_kernel_setting),
        "a dictionary of kernel settings that the role knows (docs/reference/role-variables.md), each a number or a word",
    ),
    "settings": (_is_dict_of(_is_setting), "a dictionary of settings in lower case, without control characters in a value"),
}  # fmt: skip


class ActionModule(ActionBase):
    """Look at the options of a role on the controller, before anything is done with them."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fail unless every option that is there has a value of its kind."""
        result = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec({"kinds": {"type": "dict", "required": True}})
        known = task_vars or {}
        values = {name: self._templar.template(known[name]) for name in args["kinds"] if name in known}
        if found := problems(args["kinds"], values):
            raise AnsibleActionFail("; ".join(found))
        return result | {"changed": False}
