"""The `muster-node` command."""

import os
import shutil
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer

from node_service import __version__
from node_service.app import create_app
from node_service.checks import find_problems, gpu_notes
from node_service.errors import ConfigError
from node_service.logs import LogRing, configure_logging
from node_service.server import run_server
from node_service.settings import DEFAULT_CONFIG, Settings, load_settings
from node_service.text import visible

__all__ = ["main"]

_EXIT_CONFIG = 2

cli = typer.Typer(
    name="muster-node",
    help="Muster's node service: holds models on this host and answers OpenAI requests.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        help="JSON file with the settings; each can also come from MUSTER_NODE_<KEY>.",
    ),
]


def main() -> None:
    """Run the command line."""
    try:
        cli()
    except Exception as error:  # noqa: BLE001 - a mistake of ours; its message may quote what came from elsewhere
        typer.echo(visible("".join(traceback.format_exception(error)), lines=True), err=True)
        raise SystemExit(1) from None


def _say(text: str, *, error: bool = False) -> None:
    typer.echo(visible(text), err=error)


def _show_version(wanted: bool) -> None:
    if wanted:
        _say(f"muster-node {__version__}")
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Run or check the node service of this host."""


@cli.command()
def serve(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the service until SIGTERM, which lets requests in flight end first."""
    # Whatever whoever started us allows: what this process and its engines make is written by nobody else.
    os.umask(os.umask(0o022) | 0o022)
    settings = _load(config)
    logs = LogRing()
    configure_logging(settings.log_level, logs)
    if settings.ca_bundle is not None:
        # huggingface_hub makes its own client, which takes the bundle from here.
        os.environ["SSL_CERT_FILE"] = str(settings.ca_bundle)
    try:
        app = create_app(settings, logs)
    except (ConfigError, OSError) as error:
        _refuse([str(error)])
    structlog.get_logger(__name__).info("starting", version=__version__, name=settings.name, port=settings.listen_port)
    if not run_server(app, settings):
        raise typer.Exit(1)


@cli.command()
def check(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check the configuration and this machine; print each problem, exit 2 if there is one."""
    settings = _load(config)
    problems = find_problems(settings)
    if problems:
        _refuse(problems)
    free = shutil.disk_usage(next(p for p in _ancestors(settings.store_dir) if p.exists())).free
    for note in gpu_notes(settings):
        _say(f"note: {note}")
    _say(f"ok: {settings.name}, engine {settings.engine}, {free / 1e9:.1f} GB free for models")


def _ancestors(path: Path) -> list[Path]:
    return [path.absolute(), *path.absolute().parents]


def _load(config: Path) -> Settings:
    try:
        return load_settings(config)
    except ConfigError as error:
        _refuse(error.problems)


def _refuse(problems: list[str]) -> NoReturn:
    for problem in problems:
        _say(f"error: {problem}", error=True)
    raise typer.Exit(_EXIT_CONFIG)
