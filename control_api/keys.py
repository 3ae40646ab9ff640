"""The two keys at rest: *routing* (routers read it too) and *credentials* (API and worker only).

On SQLite they are made at first start and kept beside the databases, readable by the owner only; one that is given is kept
there instead of a new one. On PostgreSQL several machines must agree on them, so both have to be given.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from pydantic import SecretStr

from control_api.errors import StartupError
from control_api.kit.files import PRIVATE, open_private
from control_api.kit.secretbox import SecretBox
from control_api.settings import Settings

NAMES = ("routing", "credentials")
FILE = "keys.json"


@dataclass(frozen=True)
class Keys:
    """Both keys, as boxes that encrypt and decrypt."""

    routing: SecretBox
    credentials: SecretBox


def load_keys(settings: Settings) -> Keys:
    """Return the keys of these settings. Raises ``StartupError`` if they are missing or malformed."""
    return Keys(*_load(settings, *NAMES))


def load_routing_key(settings: Settings) -> SecretBox:
    """Return the key that routers need; they need not be given the other. Raises ``StartupError`` as ``load_keys``."""
    return _load(settings, "routing")[0]


def given_keys(settings: Settings) -> list[SecretBox]:
    """Return those keys that these settings hold; makes none. Raises ``StartupError`` if one is malformed."""
    given = {name: getattr(settings, f"{name}_key") for name in NAMES}
    kept = settings.state_dir / FILE
    if not any(given.values()) and not settings.database_url and kept.exists():
        return _load(settings, *NAMES)
    return [SecretBox(key.get_secret_value(), name=name) for name, key in given.items() if key]


def _load(settings: Settings, *names: str) -> list[SecretBox]:
    settings_of: dict[str, SecretStr | None] = {name: getattr(settings, f"{name}_key") for name in names}
    given = {name: key.get_secret_value() for name, key in settings_of.items() if key}
    if len(given) == len(names):
        values = given
    elif settings.database_url:
        missing = " and ".join(_variable(name) for name in names if name not in given)
        raise StartupError(
            f"With PostgreSQL {missing} must be given.", code="keys_missing", hint="Make them with `muster keys secret`."
        )
    else:
        values = _kept(settings.state_dir / FILE, given)
    return [SecretBox(values[name], name=name) for name in names]


def _variable(name: str) -> str:
    return f"MUSTER_{name.upper()}_KEY"


def _kept(path: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return the keys of a file, which is made if need be. Raises ``StartupError`` if it has another than one that is given."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=30, mode=PRIVATE):
        if not path.exists():
            for name, key in given.items():
                SecretBox(key, name=name)
            new = {name: given.get(name) or SecretBox.new_key() for name in NAMES}
            write_private(path, json.dumps(new))
        with open(path, opener=open_private) as file:
            values: dict[str, str] = json.load(file)
    for name, key in given.items():
        if key != values[name]:
            message = f"{_variable(name)} is not the {name} key that {path} has."
            hint = f"Take the variable away, or give the key of {path}, which the store was made with."
            raise StartupError(message, code="keys_differ", hint=hint)
    return values


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    descriptor = open_private(part, os.O_WRONLY | os.O_TRUNC)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
