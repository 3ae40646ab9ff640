"""Where a model's files are on the hub: what a caller may write, and which files belong together. Pure."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from pydantic import TypeAdapter, ValidationError

from control_api.errors import BadInput
from control_api.kit.wire import ModelIdStr

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ._+@()=-]{0,254}")
_PART = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<total>[0-9]{5})\.gguf")
_QUANTIZATION = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q\d+(?:_[A-Z0-9]+)*|MXFP4(?:_MOE)?|BF16|F16|F32))(?=[-._]|$)",
    re.IGNORECASE,
)
_MAX_PARTS = 1000
_MODEL_ID: TypeAdapter[str] = TypeAdapter(ModelIdStr)


@dataclass(frozen=True)
class Source:
    """A repository on the hub, and perhaps a file in it, a revision of it, and the quantization that is wanted of it."""

    repo: str
    path: str | None = None
    revision: str | None = None
    quantization: str | None = None


def parse_source(text: str, *, hub_host: str) -> Source:
    """Read ``repo``, ``repo:file``, ``repo:quantization`` or a URL of the hub.

    Raises ``BadInput`` for anything else: another host, a path that is not plain and relative.
    """
    if "://" in text:
        return _from_url(text, hub_host)
    repo, _, rest = text.partition(":")
    if rest and quantization_of(rest) == rest.upper():
        return replace(_checked(repo, None, None), quantization=rest)
    return _checked(repo, rest or None, None)


def _from_url(text: str, hub_host: str) -> Source:
    try:
        url = urlsplit(text)
    except ValueError as error:
        raise BadInput(f"This is not a URL: {error}.", code="bad_source") from error
    if url.scheme not in ("http", "https") or url.netloc.lower() != hub_host.lower():
        raise BadInput(
            f"{url.netloc or text!r} is not a hub that Muster is configured for.",
            code="hub_not_allowed",
            hint=f"Give a URL of {hub_host}, or `repo:file`.",
        )
    owner, _, rest = unquote(url.path).strip("/").partition("/")
    name, _, rest = rest.partition("/")
    if not rest:
        return _checked(f"{owner}/{name}", None, None)
    kind, _, rest = rest.partition("/")
    revision, _, path = rest.partition("/")
    if kind not in ("blob", "resolve", "tree") or not revision or (kind == "tree" and path):
        raise BadInput("This is not the URL of a repository or of a file in it.", code="bad_source")
    return _checked(f"{owner}/{name}", path or None, revision)


def _checked(repo: str, path: str | None, revision: str | None) -> Source:
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise BadInput(f"{repo!r} is not a repository of the form owner/name.", code="bad_source")
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise BadInput(f"{revision!r} is not the name of a revision.", code="bad_source")
    if path is not None:
        check_path(path)
    return Source(repo, path, revision)


def is_plain(path: str) -> bool:
    """Whether a path is plain and relative."""
    return len(path) <= 1024 and all(_SEGMENT.fullmatch(s) and s not in (".", "..") for s in path.split("/"))


def check_path(path: str) -> None:
    """Raise ``BadInput`` unless the path is plain and relative."""
    if not is_plain(path):
        raise BadInput("The file's name must be a plain relative path.", code="bad_file_name")


def check_gguf(path: str, *, repo: str, paths: Collection[str]) -> None:
    """Raise ``BadInput`` unless the path names a GGUF file; it names those among a repository's ``paths``."""
    if not path.lower().endswith(".gguf"):
        suffix = PurePosixPath(path).suffix
        raise not_gguf(path, f"it is a {suffix} file" if suffix else "its name does not say so", repo=repo, paths=paths)


def not_gguf(path: str, what: str, *, repo: str, paths: Collection[str]) -> BadInput:
    """Return the refusal of a file, with what it is and what could be taken instead."""
    hint = f"Name a GGUF file. {choices(repo, [other for other in paths if other != path])}"
    return BadInput(f"{path!r} of {repo} is not a model in GGUF form: {what}.", code="not_gguf", hint=hint)


def choices(repo: str, paths: Collection[str]) -> str:
    """Say which GGUF files a repository has."""
    models = [path for path in sorted(paths) if path.lower().endswith(".gguf")]
    more = f" and {len(models) - 20} more" if len(models) > 20 else ""
    return f"{repo} has {', '.join(models[:20])}{more}." if models else f"{repo} has none."


def parts_of(path: str) -> list[str]:
    """Return all parts of a split model, in order, given any of them; for a single file only itself."""
    match = _PART.fullmatch(path)
    if not match:
        return [path]
    total = int(match["total"])
    if not 1 <= int(match["number"]) <= total <= _MAX_PARTS:
        raise BadInput(f"{path!r} is not a part of a split model that can exist.", code="bad_file_name")
    return [f"{match['stem']}-{number:05d}-of-{total:05d}.gguf" for number in range(1, total + 1)]


def only_choice(paths: Collection[str], *, repo: str, quantization: str | None = None) -> str:
    """Return the one model among a repository's files, or the one of a quantization; its first part if it is split.

    Raises ``BadInput`` naming the choices if there are several, or saying that there is none.
    """
    all_firsts = sorted({parts_of(path)[0] for path in paths if _is_model(path)})
    wanted = (quantization or "").upper()
    firsts = [path for path in all_firsts if not wanted or quantization_of(path) == wanted]
    if len(firsts) == 1:
        return firsts[0]
    if all_firsts and not firsts:
        there = ", ".join(sorted({quantization_of(path) for path in all_firsts} - {""})) or "none that its file names tell"
        raise BadInput(f"{repo} holds no {wanted} file.", code="no_such_quantization", hint=f"It has: {there}.")
    if not firsts:
        raise BadInput(f"{repo} holds no GGUF file.", code="no_gguf_file", hint="Give a repository with GGUF files.")
    raise BadInput(
        f"{repo} holds {len(firsts)} models: say which file.",
        code="file_needed",
        hint=f"For example {repo}:{firsts[0]}",
        details={"files": firsts[:50]},
    )


def _is_model(path: str) -> bool:
    try:
        check_path(path)
        parts_of(path)
    except BadInput:
        return False
    name = path.rpartition("/")[2].lower()
    return name.endswith(".gguf") and not name.startswith("mmproj")


def quantization_of(path: str) -> str:
    """Return the quantization that a file's name speaks of, e.g. ``Q4_K_M``; empty if none."""
    stem = path.rpartition("/")[2].removesuffix(".gguf")
    found = _QUANTIZATION.findall(stem)
    return found[-1].upper() if found else ""


def derived_id(repo: str, path: str) -> str:
    """Return a model id for a file: the repository's name and the quantization, e.g. ``smollm2-135m-instruct:q4_1``.

    Raises ``BadInput`` if that is no id that a caller could give.
    """
    family = re.sub(r"[-_.]gguf$", "", repo.partition("/")[2].lower())
    quantization = quantization_of(path).lower()
    try:
        return _MODEL_ID.validate_python(f"{family}:{quantization}" if quantization else family)
    except ValidationError as error:
        what = error.errors(include_url=False, include_input=False)[0]["msg"]
        message = f"The name of {path[:300]} of {repo} gives no id for the model: {what}."
        raise BadInput(message, code="bad_model_id", hint="Give it one with `id`.") from error
