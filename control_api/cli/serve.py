"""``muster up`` and ``muster serve``."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

import typer

from control_api.cli.connection import fail, load_settings
from control_api.cli.output import say
from control_api.errors import MusterError
from control_api.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Run one process of the control plane; for several machines, on PostgreSQL.")


def _run(process: str, settings: Settings, coroutine: Coroutine[Any, Any, None], *, fast: bool = False) -> None:
    import uvloop

    from control_api import logs
    from control_api.kit import openfiles

    logs.configure(settings, process)
    openfiles.allow_many()
    try:
        asyncio.run(coroutine, loop_factory=uvloop.new_event_loop if fast else None)
    except MusterError as error:
        raise fail(error.message, error.hint) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def up(
    local_node: Annotated[
        bool, typer.Option("--local-node", help="Make this machine a host too, named 'local', without root or systemd.")
    ] = False,
) -> None:
    """Run everything on this machine: control API, worker, router, dashboard. For a first try or a small site."""
    from control_api.up.supervise import supervise

    settings = load_settings()
    _run("up", settings, supervise(settings, lambda line: say(line, error=True), local_node=local_node))


@app.command("api")
def api(
    with_worker: Annotated[bool, typer.Option("--with-worker", help="Run jobs in this process too.")] = False,
    local_node: Annotated[bool, typer.Option("--local-node", hidden=True)] = False,
) -> None:
    """Run the control API. It migrates the store; the other processes wait for it."""
    from control_api.serve import serve_api

    settings = load_settings()
    _run("api", settings, serve_api(settings, with_worker=with_worker, local_node=local_node))


@app.command("router")
def router() -> None:
    """Run the OpenAI-compatible router."""
    from control_api.serve import serve_router

    settings = load_settings()
    _run("router", settings, serve_router(settings), fast=True)


@app.command("worker")
def worker() -> None:
    """Run a worker: it claims jobs and starts a supervisor process for each."""
    from control_api.serve import run_worker

    settings = load_settings()
    _run("worker", settings, run_worker(settings))


@app.command("dashboard")
def dashboard() -> None:
    """Run the dashboard."""
    from control_api.dashboard import serve_dashboard

    settings = load_settings()
    _run("dashboard", settings, serve_dashboard(settings))
