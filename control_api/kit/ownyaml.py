"""Reads YAML files of our own: roles, playbooks, what belongs to them. What somebody sent is read elsewhere, with a budget."""

from pathlib import Path
from typing import Any

import yaml

# Where PyYAML was built without libyaml, ten times slower: a process that starts reads a few hundred kilobytes.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_file(path: Path) -> Any:
    """Return what a file says, only in plain types; None if it is empty."""
    return yaml.load(path.read_bytes(), Loader=_LOADER)  # noqa: S506 - it is a safe loader
