"""A site's mirror that is a directory: the hub of a site that reaches none.

``<owner>/<name>/<path>`` are the files, ``<owner>/<name>/.mirror.json`` says what they are: commit, sizes and SHA-256.
"""

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any, BinaryIO

import httpx2
from filelock import FileLock
from pydantic import ValidationError

from control_api.catalogue.files import Files
from control_api.catalogue.hub import ANSWER_LIMIT_BYTES, Hub, HubFile, HubRepo, Popularity
from control_api.catalogue.sources import Source, check_gguf, check_path, is_plain, parse_source
from control_api.errors import BadAnswer, BadInput, Conflict, NotFound, Unavailable
from control_api.settings import Settings

_INDEX = ".mirror.json"
_BLOCK_BYTES = 1 << 20


class MirrorDirectory:
    """Reads and fills a mirror."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def repo(self, name: str) -> HubRepo:
        """Return a repository. Raises ``NotFound`` or, for an index that cannot be read, ``Unavailable`` or ``BadAnswer``."""
        index = self._index(name)
        try:
            if index.stat().st_size > ANSWER_LIMIT_BYTES:
                raise BadAnswer(f"{index} cannot be used: it is longer than {ANSWER_LIMIT_BYTES} bytes.", code="hub_answer")
            found = HubRepo.model_validate_json(index.read_bytes())
            plain = {path: file for path, file in found.files.items() if is_plain(path) and file.path == path}
            return found.model_copy(update={"files": plain})
        except FileNotFoundError:
            hint = f"Bring it here: muster hub import FILE --repo {name}"
            raise NotFound(f"The mirror {self.root} has no repository {name!r}.", code="hub_not_found", hint=hint) from None
        except OSError as error:
            raise Unavailable(f"{index} cannot be read: {error}", code="hub_unreachable") from error
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))[:200]
            raise BadAnswer(f"{index} cannot be used: {where}: {first['msg']}", code="hub_answer") from error

    def path(self, repo: str, path: str) -> Path:
        """Return where a file lies. Raises ``NotFound`` if it is not there, or not in its repository."""
        folder = self._folder(repo)
        found = (folder / path).resolve()
        if not found.is_relative_to(folder.resolve()) or not found.is_file():
            raise NotFound(f"The mirror {self.root} has no file {path!r} of {repo}.", code="hub_not_found")
        return found

    def part(self, repo: str, path: str) -> Path:
        """Return where a file's bytes are collected before ``add``; beside its place, so that adding is a rename.

        Raises ``BadInput`` for a path that is not plain and relative, or names no GGUF file.
        """
        check_path(path)
        check_gguf(path, repo=repo, paths=())
        folder = self._folder(repo)
        part = folder / f".{sha1(path.encode(), usedforsecurity=False).hexdigest()}.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        return part

    def copy(self, file: BinaryIO, repo: str, path: str) -> HubFile:
        """Copy a file into the mirror, and return what it is."""
        part = self.part(repo, path)
        with part.open("wb") as target:
            shutil.copyfileobj(file, target, _BLOCK_BYTES)
        return self.add(part, repo, path)

    def add(self, part: Path, repo: str, path: str, *, commit: str | None = None, pipeline: str | None = None) -> HubFile:
        """Take a collected file up; when this returns it is on the disk and in the index.

        Raises ``Conflict`` if the mirror has another file of that name.
        """
        digest = _sync_and_hash(part)
        file = HubFile(path=path, size_bytes=part.stat().st_size, sha256=digest)
        with FileLock(self._folder(repo) / ".mirror.lock"):
            try:
                known = self.repo(repo)
            except NotFound:
                known = None
            there = known.files.get(path) if known else None
            if there and there.sha256 != digest:
                part.unlink()
                raise Conflict(f"The mirror has another {path!r} of {repo}: {there.sha256}.", code="mirror_file_exists")
            target = self._folder(repo) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
            files = (known.files if known else {}) | {path: file}
            pipeline = pipeline or (known.pipeline if known else None)
            self._write(repo, HubRepo(commit=commit or _commit_of(files), files=files, pipeline=pipeline))
        return file

    def _write(self, name: str, repo: HubRepo) -> None:
        new = self._index(name).with_suffix(".new")
        new.write_text(repo.model_dump_json(indent=1))
        new.replace(self._index(name))

    def _index(self, repo: str) -> Path:
        return self._folder(repo) / _INDEX

    def _folder(self, repo: str) -> Path:
        if parse_source(repo, hub_host="").repo != repo:
            raise BadInput(f"{repo!r} is not a repository of the form owner/name.", code="bad_source")
        return self.root / repo


class MirrorHub(Hub):
    """A hub that is a directory. Nodes cannot reach it: they read through the control API."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self.host = str(root)
        self._directory = MirrorDirectory(root)
        self.files = _MirrorFiles(settings, self._directory)

    async def aclose(self) -> None:
        """Do nothing: a directory is not connected to."""

    async def repo(self, source: Source) -> HubRepo:
        """Return a repository with its files; a mirror has one revision. Raises ``NotFound`` or ``Unavailable``."""
        return await asyncio.to_thread(self._directory.repo, source.repo)

    async def popularity(self, repo: str, *, timeout_s: float) -> Popularity:
        """Raise ``NotFound``: a directory counts nothing."""
        raise NotFound(f"The mirror does not count how popular {repo} is.", code="hub_not_found")


class _MirrorFiles(Files):
    """Opens files of a directory as if a hub had answered."""

    def __init__(self, settings: Settings, directory: MirrorDirectory) -> None:
        super().__init__(settings)
        self._directory = directory

    @asynccontextmanager
    async def open(self, repo: str, revision: str, path: str, *, byte_range: str | None) -> AsyncIterator[httpx2.Response]:
        """Yield an answer with the file, or the part of it that was asked for."""
        with self._directory.path(repo, path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = re.fullmatch(r"bytes=([0-9]{1,18})-([0-9]{0,18})", byte_range or "")
            start = int(found[1]) if found else 0
            end = min(size, int(found[2]) + 1) if found and found[2] else size
            if start >= size:
                yield httpx2.Response(416, headers={"content-range": f"bytes */{size}"})
                return
            headers = {"content-length": str(end - start), "content-type": "application/octet-stream"}
            if found:
                headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
            yield httpx2.Response(206 if found else 200, headers=headers, content=_pieces(file, start, end))


async def _pieces(file: BinaryIO, start: int, end: int) -> AsyncIterator[bytes]:
    file.seek(start)
    while start < end and (piece := await asyncio.to_thread(file.read, min(_BLOCK_BYTES, end - start))):
        start += len(piece)
        yield piece


def open_hub(settings: Settings) -> Hub:
    """Return the hub that these settings name: the mirror's directory, or what answers at a URL."""
    return MirrorHub(settings, settings.hub_mirror_dir) if settings.hub_mirror_dir else Hub(settings)


async def export(hub: Hub, source: Source, paths: list[str], mirror: MirrorDirectory, report: Callable[[str], None]) -> None:
    """Fetch files of a hub into a mirror, going on where an earlier attempt stopped.

    Raises ``NotFound`` for files that the hub does not have, ``Unavailable`` when it does not give them, and ``BadInput`` when
    what came is not what the hub says it is.
    """
    repo = await hub.repo(source)
    for path in paths:
        if not (file := repo.files.get(path)):
            raise NotFound(f"{source.repo} on {hub.host} has no file {path!r}.", code="hub_not_found")
        part = mirror.part(source.repo, path)
        report(f"{path}: {file.size_bytes / 1e9:.2f} GB")
        await _collect(hub, source.repo, repo.commit, file, part)
        digest = await asyncio.to_thread(_sync_and_hash, part)
        if digest != file.sha256:
            part.unlink()
            raise BadInput(f"{path}: the hub says {file.sha256}, what came is {digest}.", code="hub_corrupt")
        mirror.add(part, source.repo, path, commit=repo.commit, pipeline=repo.pipeline)


async def _collect(hub: Hub, repo: str, commit: str, file: HubFile, part: Path) -> None:
    with part.open("ab") as target:
        start = target.tell()
        if start >= file.size_bytes:
            return
        async with hub.files.open(repo, commit, file.path, byte_range=f"bytes={start}-") as answer:
            if answer.status_code not in (200, 206):
                raise Unavailable(f"{hub.host} answered {answer.status_code} for {file.path}.", code="hub_unreachable")
            if answer.status_code == 200:
                target.truncate(0)
            async for piece in answer.aiter_raw():
                if target.tell() + len(piece) > file.size_bytes:
                    raise BadAnswer(f"{hub.host} sends more of {file.path} than it says there is.", code="hub_answer")
                await asyncio.to_thread(target.write, piece)


def _sync_and_hash(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        os.fsync(file.fileno())
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _commit_of(files: dict[str, HubFile]) -> str:
    """Return an id of this set of files, as long as a commit's."""
    listed: list[Any] = sorted((file.path, file.sha256) for file in files.values())
    return sha1(json.dumps(listed).encode(), usedforsecurity=False).hexdigest()
