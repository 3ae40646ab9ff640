"""What each process of ``muster up`` finds in its environment: what it needs, and no secret of another."""

import json
import os
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from control_api.settings import Settings

# Of the machine and its user.
_ALL = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH"),
    *("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)
# Those that call the internet: hubs and cloud providers. A proxy's address may hold a password.
_PROXIES = tuple(case(f"{name}_proxy") for name in ("http", "https", "all", "no") for case in (str.lower, str.upper))
_OF_THE_API = (*_PROXIES, "SSH_AUTH_SOCK", "HF_ENDPOINT", "HF_TOKEN")

# The settings that a process reads, by how they begin; the API with its worker reads all.
_READS = {
    "router": ("router_", "log_", "routing_key", "database_url"),
    "dashboard": ("dashboard_", "log_", "api_host", "api_port", "api_url", "router_host", "router_port", "router_url"),
}


def environment_of(role: str, settings: Settings, outside: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a process; ``outside``: that of ``muster up``."""
    names = _ALL + {"api": _OF_THE_API, "router": _PROXIES}.get(role, ())
    found = {name: outside[name] for name in names if name in outside}
    found |= _all_settings(outside) if role == "api" else _read_settings(_READS[role], settings)
    return found | {"MUSTER_STATE_DIR": str(settings.state_dir), "PYTHONUNBUFFERED": "1"}


def _all_settings(outside: Mapping[str, str]) -> dict[str, str]:
    known = {f"MUSTER_{field}".upper() for field in Settings.model_fields}
    return {name: value for name, value in outside.items() if name.upper() in known}


def _read_settings(prefixes: tuple[str, ...], settings: Settings) -> dict[str, str]:
    """Return settings as they are in force: also those from files, since the directory with all secrets is not passed on."""
    chosen = [field for field in sorted(settings.model_fields_set) if field.startswith(prefixes)]
    values = {field: getattr(settings, field) for field in chosen}
    return {f"MUSTER_{field.upper()}": _text(value) for field, value in values.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps(value) if isinstance(value, list | bool) else str(value)
