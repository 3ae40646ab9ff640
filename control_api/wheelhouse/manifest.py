"""What a wheelhouse holds: `manifest.json`, which the roles read, and the list of hashes."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

UNUSED_BUNDLE_S = 86_400  # a play that started with the manifest of before may still be copying


@dataclass(frozen=True)
class Bundle:
    """One archive: `file` is relative to the wheelhouse, `wheels` are file names."""

    python: str
    arch: str
    file: str
    sha256: str
    bytes: int
    wheels: tuple[str, ...]


@dataclass(frozen=True)
class Wheelhouse:
    """The bundles of one version; `key` names all that they were made from."""

    version: str
    key: str
    bundles: tuple[Bundle, ...]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def present_bundles(directory: Path, key: str) -> tuple[Bundle, ...]:
    """Return the bundles on the disk that were made from the same input."""
    try:
        wheelhouse = read_manifest(directory)
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    if wheelhouse.key != key:
        return ()
    return tuple(b for b in wheelhouse.bundles if _has_size(directory / b.file, b.bytes))


def read_manifest(directory: Path) -> Wheelhouse:
    """Return what the wheelhouse holds; raises OSError, ValueError, KeyError or TypeError when that is not readable."""
    document = json.loads((directory / "manifest.json").read_text())
    bundles = tuple(Bundle(**bundle | {"wheels": tuple(bundle["wheels"])}) for bundle in document["bundles"])
    return Wheelhouse(document["version"], document["key"], bundles)


def write_manifest(directory: Path, wheelhouse: Wheelhouse) -> None:
    """Name the new bundles, then remove those that nobody can be using any more."""
    sums = "".join(f"{bundle.sha256}  {bundle.file}\n" for bundle in wheelhouse.bundles)
    for name, text in (("SHA256SUMS", sums), ("manifest.json", json.dumps(asdict(wheelhouse), indent=2) + "\n")):
        fresh = directory / f".{name}"
        fresh.write_text(text)
        fresh.replace(directory / name)
    named = {bundle.file for bundle in wheelhouse.bundles}
    for path in directory.glob("*.tar"):
        if path.name not in named and path.stat().st_mtime < time.time() - UNUSED_BUNDLE_S:
            path.unlink()


def _has_size(path: Path, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes
