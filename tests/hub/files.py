"""The repositories under the hub's root directory."""

import hashlib
import re
import threading
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RepoFile", "Repositories", "commit_of"]


@dataclass(frozen=True)
class RepoFile:
    """One file of a repository."""

    name: str
    path: Path
    size: int
    sha256: str


def commit_of(repo: str) -> str:
    """Return the id of a repository's only commit."""
    return hashlib.sha1(repo.encode()).hexdigest()


class Repositories:
    """Finds repositories and hashes their files, once for each version of a file."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._digests: dict[tuple[Path, int, int], str] = {}
        self._lock = threading.Lock()

    def directory(self, repo: str) -> Path | None:
        """Return a repository's directory, or None."""
        path = self._root / repo
        return path if re.fullmatch(r"[\w.-]+/[\w.-]+", repo) and path.is_dir() else None

    def files(self, directory: Path) -> list[RepoFile]:
        """Return all files of a repository."""
        return [self._describe(directory, path) for path in sorted(directory.rglob("*")) if path.is_file()]

    def file(self, directory: Path, name: str) -> RepoFile | None:
        """Return one file of a repository; a name that leads out of it is not there."""
        path = (directory / name).resolve()
        inside = path.is_relative_to(directory.resolve())
        return self._describe(directory, path) if inside and path.is_file() else None

    def _describe(self, directory: Path, path: Path) -> RepoFile:
        name = str(path.relative_to(directory.resolve() if path.is_absolute() else directory))
        stat = path.stat()
        key = (path, stat.st_size, stat.st_mtime_ns)
        with self._lock:
            if key not in self._digests:
                with path.open("rb") as file:
                    self._digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
            return RepoFile(name, path, stat.st_size, self._digests[key])
