"""One call of ansible-runner, in a thread, with the parts of it that are known to be broken left alone.

Its own cancel and timeouts kill only the main process while ansible-core's workers go on in sessions of their own; so none of
them is used, and ending a run is the supervisor's matter (see processes.end_tree).
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible_runner

SETTINGS = {"pexpect_timeout": 1, "suppress_output_file": True, "suppress_ansible_output": True}


@dataclass(frozen=True)
class PlaybookCall:
    """What to run.

    Parameters
    ----------
    private_data: a fresh directory: ansible-runner passes an old one's variables again.
    environment: added to the process's own.
    handler: gets every event, in the thread; must not raise.
    """

    playbook: Path
    project_dir: Path
    private_data: Path
    inventories: list[str]
    environment: dict[str, str]
    handler: Callable[[dict[str, Any]], bool]
    options: str = ""
    limit: str | None = None


@dataclass(frozen=True)
class Ended:
    """How a call ended: the exit status, or why there is none."""

    rc: int | None
    error: str | None = None


def start(call: PlaybookCall) -> asyncio.Future[Ended]:
    """Start a call; the future is resolved when its thread ends, and never fails."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Ended] = loop.create_future()

    def resolve(ended: Ended) -> None:
        if not future.done():
            future.set_result(ended)

    def run() -> None:
        ended = _run(call)
        # The loop may be closed: a thread that outlived a killed run has nobody left to tell.
        if not loop.is_closed():
            loop.call_soon_threadsafe(resolve, ended)

    threading.Thread(target=run, name="ansible-runner", daemon=True).start()
    return future


def _run(call: PlaybookCall) -> Ended:
    try:
        runner = ansible_runner.run(
            private_data_dir=str(call.private_data),
            project_dir=str(call.project_dir),
            playbook=str(call.playbook),
            inventory=call.inventories,
            envvars=call.environment,
            settings=dict(SETTINGS),
            cmdline=call.options or None,
            limit=call.limit,
            fact_cache_type="",
            event_handler=call.handler,
            # Without one it replaces the handlers of SIGINT and SIGTERM for good.
            cancel_callback=lambda: False,
            ignore_logging=True,
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the run is over and the job must say so
        return Ended(None, f"ansible-runner failed: {type(error).__name__}: {error}")
    return Ended(runner.rc)
