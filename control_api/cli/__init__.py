"""The ``muster`` command. Thin: it parses, then calls the client or serves."""

import io
import sys
import traceback
from typing import Annotated

import typer

from control_api import __version__
from control_api.cli import (
    alerts,
    downloads,
    drift,
    fleet,
    hub,
    jobs,
    keys,
    models,
    node_models,
    ops,
    placement,
    plan,
    providers,
    serve,
    settings,
    store,
)
from control_api.cli.output import say, say_lines

app = typer.Typer(
    name="muster",
    no_args_is_help=True,
    rich_markup_mode=None,
    # Tracebacks pass through our own output.
    pretty_exceptions_enable=False,
    help="Turn bare GPU hosts into one OpenAI-compatible endpoint.\n\n"
    "First try: `muster up` in one terminal, then in another `muster hosts add NAME ADDRESS`, "
    "`muster jobs run site.yml NAME --watch` and `muster models register smollm2:135m`.",
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"muster {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Hold the options that every command has."""


app.command("up")(serve.up)
app.command("doctor")(ops.doctor)
app.command("alerts")(alerts.alerts)
app.command("plan")(plan.plan)
app.command("apply")(plan.apply)
app.add_typer(serve.app, name="serve")
app.add_typer(fleet.hosts, name="hosts")
fleet.nodes.command("models")(node_models.models)
fleet.nodes.command("tag")(node_models.tag)
app.add_typer(fleet.nodes, name="nodes")
app.add_typer(jobs.app, name="jobs")
app.add_typer(drift.app, name="drift")
models.models.command("plan")(placement.plan)
app.add_typer(models.models, name="models")
app.add_typer(downloads.tasks, name="tasks")
app.add_typer(hub.app, name="hub")
app.add_typer(keys.app, name="keys")
app.add_typer(providers.app, name="providers")
app.add_typer(settings.app, name="settings")
app.add_typer(store.app, name="store")
app.add_typer(ops.wheelhouse, name="wheelhouse")


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except Exception as error:  # noqa: BLE001 - a mistake of ours; its message may quote what came from elsewhere
        say_lines("".join(traceback.format_exception(error)), error=True)
        raise SystemExit(1) from None
