"""The store directory: where artifacts lie, by the sha256 of their content.

artifacts/<sha256>/<file name>    complete and verified
artifacts/<sha256>/.about.json    which model it came for, and when
partial/<sha256>.part             bytes on their way
partial/<sha256>.hub.json         where the hub keeps it, to go on without the control API
locks/<sha256>.lock               who is fetching it
models/<key>/                     links, so that the parts of a split model lie together
"""

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from node_service.errors import WeightsError
from node_service.state_dir import take_rights
from node_service.wire import Artifact, ModelSpec

__all__ = ["InstalledArtifact", "Store", "safe_name"]

_ABOUT = ".about.json"
_OTHERS_WRITE = 0o022
_NAME_LIMIT = 200  # characters, all ASCII; file systems allow 255 bytes


@dataclass(frozen=True)
class InstalledArtifact:
    """A complete artifact on this node."""

    sha256: str
    name: str
    size: int
    model_id: str
    installed_at: str


def safe_name(name: str) -> str:
    """Return a file name that cannot leave its directory, for whatever a hub calls a file.

    The end is kept, because llama.cpp reads the part number of a split model from it.
    """
    last = re.split(r"[/\\]", name)[-1]
    clean = re.sub(r"[^A-Za-z0-9._+-]", "_", last)[-_NAME_LIMIT:].lstrip(".-")
    return clean or "artifact"


class Store:
    """Artifacts on disk. A file under `artifacts/` is complete: it came there by rename."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._artifacts = path / "artifacts"
        self._partial = path / "partial"
        self._models = path / "models"
        self.locks = path / "locks"

    def create(self) -> None:
        """Make the directories, in which nobody else may write; raises OSError when that is not possible."""
        for directory in (self._artifacts, self._partial, self._models, self.locks):
            directory.mkdir(parents=True, exist_ok=True)
            take_rights((self.path, directory), _OTHERS_WRITE)
            take_rights(directory.rglob("*"), _OTHERS_WRITE)

    def file(self, artifact: Artifact) -> Path:
        """Return where a complete artifact lies."""
        return self._artifacts / artifact.sha256 / safe_name(artifact.name)

    def find(self, digest: str) -> Path | None:
        """Return the complete file with this sha256, if it is here."""
        about = self.about(digest)
        return None if about is None else self._artifacts / digest / about.name

    def holds(self, artifact: Artifact) -> bool:
        """Whether the artifact is here, complete."""
        found = self.find(artifact.sha256)
        return found is not None and found.is_file() and found.stat().st_size == artifact.size

    def part(self, digest: str) -> Path:
        """Return where an artifact's bytes are collected."""
        return self._partial / f"{digest}.part"

    def part_size(self, digest: str) -> int:
        """Return how many bytes of an artifact were collected."""
        try:
            return self.part(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def free_bytes(self) -> int:
        """Return the free bytes of the store's disk."""
        return shutil.disk_usage(self.path).free

    def install(self, artifact: Artifact, model_id: str) -> None:
        """Move a collected and verified artifact to its place; atomic."""
        target = self.file(artifact)
        target.parent.mkdir(exist_ok=True)
        about = InstalledArtifact(
            sha256=artifact.sha256,
            name=target.name,
            size=artifact.size,
            model_id=model_id,
            installed_at=datetime.now(UTC).isoformat(),
        )
        self.part(artifact.sha256).replace(target)
        # Written last: a directory without it is not complete, and is fetched again.
        temporary = target.parent / f"{_ABOUT}.new"
        temporary.write_text(json.dumps(asdict(about)), encoding="utf-8")
        temporary.replace(target.parent / _ABOUT)
        self._hub_file(artifact.sha256).unlink(missing_ok=True)

    def verified_at(self, digest: str) -> float | None:
        """Return when a complete artifact was hashed last, in Unix seconds; None if it is not here."""
        try:
            return (self._artifacts / digest / _ABOUT).stat().st_mtime
        except OSError:
            return None

    def note_verified(self, digest: str) -> None:
        """Note that an artifact was found to be right now; nothing happens if it is gone meanwhile."""
        with suppress(OSError):
            os.utime(self._artifacts / digest / _ABOUT)

    def discard_part(self, digest: str) -> None:
        """Throw collected bytes away."""
        self.part(digest).unlink(missing_ok=True)

    def remove(self, digest: str) -> None:
        """Delete an artifact and what was collected of it; nothing happens if it is not here.

        Raises:
            WeightsError: the disk refuses.
        """
        directory = self._artifacts / digest
        try:
            # First of all it stops being complete, so that a removal that is cut short leaves nothing to load.
            (directory / _ABOUT).unlink(missing_ok=True)
            if directory.exists():
                shutil.rmtree(directory)
            self._hub_file(digest).unlink(missing_ok=True)
            self.discard_part(digest)
        except OSError as error:
            raise WeightsError(f"cannot delete {error.filename}: {error.strerror}") from error

    def installed(self) -> list[InstalledArtifact]:
        """Return all complete artifacts."""
        abouts = (self.about(directory.name) for directory in sorted(self._artifacts.iterdir()))
        return [about for about in abouts if about is not None]

    def open_model(self, spec: ModelSpec) -> Path:
        """Return the file an engine opens for a model, with the other parts beside it.

        Raises:
            WeightsError: two artifacts of the model have the same file name.
        """
        if len(spec.artifacts) == 1:
            return self._required(spec.artifacts[0])
        directory = self._models / sha256(spec.id.encode()).hexdigest()[:32]
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for artifact in spec.artifacts:
            link = directory / safe_name(artifact.name)
            if link.is_symlink():
                raise WeightsError(f"{spec.id}: two artifacts are named {link.name}")
            link.symlink_to(self._required(artifact))
        first = (a for a in spec.artifacts if re.search(r"-0*1-of-\d+\.", a.name))
        return directory / safe_name(next(first, spec.artifacts[0]).name)

    def remember_hub(self, digest: str, source: dict[str, Any]) -> None:
        """Keep where the hub has an artifact while it is being fetched."""
        self._hub_file(digest).write_text(json.dumps(source), encoding="utf-8")

    def remembered_hub(self, digest: str) -> dict[str, Any] | None:
        """Return what `remember_hub` kept, or None."""
        return _read_object(self._hub_file(digest))

    def _required(self, artifact: Artifact) -> Path:
        found = self.find(artifact.sha256)
        if found is None:
            raise WeightsError(f"{artifact.name}: not in the store")
        return found

    def _hub_file(self, digest: str) -> Path:
        return self._partial / f"{digest}.hub.json"

    def about(self, digest: str) -> InstalledArtifact | None:
        """Return what is known about a complete artifact, or None if it is not here."""
        document = _read_object(self._artifacts / digest / _ABOUT)
        if document is None:
            return None
        try:
            return InstalledArtifact(**document)
        except TypeError:
            return None


def _read_object(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; a file that was cut short counts as not there."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
