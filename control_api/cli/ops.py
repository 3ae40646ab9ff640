"""``muster doctor`` and ``muster wheelhouse``."""

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from control_api.cli.connection import fail, load_settings
from control_api.cli.output import say, status
from control_api.errors import MusterError
from control_api.settings import Settings

wheelhouse = typer.Typer(no_args_is_help=True, help="The wheels that hosts install from, without internet.")

OK, BAD = "ok", "problem"


def doctor() -> None:
    """Look at this machine and its settings, and say what would go wrong. Exit code 1 if anything would."""
    settings = load_settings()
    problems = 0
    for state, what in _checks(settings):
        say(f"{state:8} {what}")
        problems += state == BAD
    if problems:
        raise fail(f"{problems} problems found.")


def _checks(settings: Settings) -> Iterator[tuple[str, str]]:
    yield OK, f"Python {sys.version.split()[0]}, state in {settings.state_dir}"
    for command in ("ansible-playbook", "ssh", "uv"):
        found = shutil.which(command, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        yield (OK, f"{command} is {found}") if found else (BAD, f"{command} was not found")
    playbooks = settings.project_dir / "playbooks"
    yield (OK, f"playbooks in {playbooks}") if playbooks.is_dir() else (BAD, f"{playbooks} is missing: set MUSTER_PROJECT_DIR")
    yield _keys(settings)
    yield _store(settings)
    yield _wheelhouse(settings)
    for name in ("api", "router", "dashboard"):
        yield _port(name, getattr(settings, f"{name}_host"), getattr(settings, f"{name}_port"))


def _keys(settings: Settings) -> tuple[str, str]:
    from control_api.keys import load_keys

    try:
        load_keys(settings)
    except MusterError as error:
        return BAD, f"{error.message} {error.hint or ''}"
    return OK, "both keys at rest can be read"


def _store(settings: Settings) -> tuple[str, str]:
    from control_api.migrations import runner

    name = "PostgreSQL" if settings.database_url else "SQLite"
    if asyncio.run(asyncio.to_thread(runner.is_current, settings)):
        return OK, f"the store ({name}) answers and is current"
    missing = f"the store ({name}) is not there or not migrated; the control API does that"
    return OK if not settings.database_url else BAD, missing


def _wheelhouse(settings: Settings) -> tuple[str, str]:
    manifest = settings.cache_dir / "wheelhouse" / "manifest.json"
    if manifest.exists():
        return OK, f"wheelhouse in {manifest.parent}"
    return BAD, f"no wheelhouse in {manifest.parent}: `muster wheelhouse build`"


def _port(name: str, host: str, port: int) -> tuple[str, str]:
    with socket.socket() as probe:
        probe.settimeout(1)
        busy = probe.connect_ex((host, port)) == 0
    return OK, f"{name}: {host}:{port} is {'answered (running?)' if busy else 'free'}"


@wheelhouse.command("build")
def build(
    python: Annotated[
        str, typer.Option(help="Versions of Python on the hosts, separated by commas; default: all.", show_default=False)
    ] = "",
    arch: Annotated[str, typer.Option(help="Architectures of the hosts, separated by commas.")] = "x86_64",
    engine_wheel: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="An engine built for CUDA, instead of the one from PyPI.")
    ] = None,
    control_plane: Annotated[
        bool, typer.Option("--control-plane", help="For playbooks/control_plane.yml, which puts Muster itself on a host.")
    ] = False,
) -> None:
    """Build the wheelhouse: once, and again only when something in it changes."""
    from control_api.wheelhouse import CONTROL_PLANE, NODE, build_wheelhouse

    settings = load_settings()
    product = CONTROL_PLANE if control_plane else NODE
    with status("Building") as report:
        folder = settings.cache_dir / ("wheelhouse-control-plane" if control_plane else "wheelhouse")
        try:
            build_wheelhouse(
                folder,
                pythons=python.split(",") if python else product.pythons,
                project_dir=settings.project_dir,
                arches=arch.split(","),
                engine_wheels=[engine_wheel] if engine_wheel else [],
                product=product,
                report=report,
            )
        except MusterError as error:
            raise fail(error.message, error.hint) from error
    say(folder)
