# SPDX-License-Identifier: GPL-3.0-or-later
# Imports ansible-core, hence the licence of this file. Needs nothing but ansible-core and the standard library.
"""Callback `muster`: a run from a shell or a pipeline in the job history of the control API."""

import json
import os
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import action_loader

DOCUMENTATION = r"""
name: muster
type: notification
short_description: Put a run of ansible-playbook into Muster's job history
description:
  - Opens an external job at the control API, posts its events from a thread, and says how the run ended.
  - Events wait in a file while the API is away. Whatever happens here, the run goes on; what went wrong is a warning.
  - Does nothing under the control API itself (E(MUSTER_JOB_ID) is set), which sees its own runs.
author: Muster
requirements:
  - enabled by E(ANSIBLE_CALLBACKS_ENABLED), or C(callbacks_enabled) in ansible.cfg
options:
  api_url:
    description: Address of the control API.
    type: str
    env: [{name: MUSTER_API_URL}]
  ca_bundle:
    description: Certificate authorities to trust.
    type: path
    env: [{name: MUSTER_CA_BUNDLE}]
"""

MusterAction: Any = action_loader.get("muster_base", class_only=True)

BATCH = 200
RENEW_S = 20.0
PAUSE_S = 0.5
OPEN_S = 10.0
DRAIN_S = 30.0
MAX_TEXT = 16 << 10


class Poster(threading.Thread):
    """Sends what is in a spool file to a job, in order, each event again until the API has it.

    Parameters:
        api: client of the control API that does not repeat a call by itself.
        job_id: the external job.
    """

    def __init__(self, api: Any, job_id: str) -> None:
        super().__init__(name="muster-events", daemon=True)
        self._api = api
        self._path = f"/v0/jobs/{job_id}/events"
        self._spool = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - open as long as the run
        self._lock = threading.Lock()
        self._read_bytes = self._written_bytes = 0
        self._end: dict[str, Any] | None = None
        self._wake = threading.Event()
        self.events = 0
        self.problem = ""

    def add(self, event: dict[str, Any]) -> None:
        """Put an event into the spool."""
        self.events += 1
        with self._lock:
            self._spool.seek(self._written_bytes)
            self._written_bytes += self._spool.write(json.dumps({"counter": self.events, **event}).encode() + b"\n")

    def finish(self, rc: int, recap: dict[str, dict[str, int]]) -> bool:
        """Send the rest and the end; tell whether all of it has arrived in time."""
        self._end = {"rc": rc, "recap": recap, "events": self.events}
        self._wake.set()
        self.join(DRAIN_S)
        return not self.is_alive() and not self.problem

    def run(self) -> None:
        """Send until the end has been sent, or the API says that the job has ended."""
        renewed = time.monotonic()
        while True:
            self._wake.wait(PAUSE_S)
            end = self._end
            events, offset = self._next()
            ending = end is not None and offset == self._written_bytes
            if not (events or ending or time.monotonic() - renewed > RENEW_S):
                continue
            try:
                self._api.post(self._path, {"events": events, "end": end if ending else None})
            except MusterAction.ApiError as error:
                if error.status is not None and 400 <= error.status < 500 and error.status != 429:
                    self.problem = str(error)
                    return
                time.sleep(1)
                continue
            renewed, self._read_bytes = time.monotonic(), offset
            if ending:
                return

    def _next(self) -> tuple[list[dict[str, Any]], int]:
        """Return the events to send next, and where in the spool they end."""
        with self._lock:
            self._spool.seek(self._read_bytes)
            lines = [line for _, line in zip(range(BATCH), self._spool, strict=False)]
        return [json.loads(line) for line in lines], self._read_bytes + sum(map(len, lines))


class CallbackModule(CallbackBase):
    """Turns what Ansible says into events of an external job."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "muster"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.disabled = bool(os.environ.get("MUSTER_JOB_ID"))
        self._poster: Poster | None = None
        self._playbook = self._play = ""
        self._started: dict[tuple[str, str], float] = {}

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Remember what is run."""
        self._playbook = Path(playbook._file_name).name

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Open the job with the hosts of the first play that has any."""
        self._play = play.get_name()
        if self._poster is None and not self.disabled:
            inventory = play.get_variable_manager()._inventory
            hosts = [host.vars["muster_host_id"] for host in inventory.get_hosts("gpu_hosts") if "muster_host_id" in host.vars]
            if hosts:
                self._open(hosts)
        self._say("playbook_on_play_start", stdout=f"PLAY [{self._play}]")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Name the task."""
        self._say("playbook_on_task_start", task=task, stdout=f"TASK [{task.get_name()}]")

    v2_playbook_on_handler_task_start = v2_playbook_on_task_start

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Take the time."""
        self._started[host.get_name(), task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Tell of a task that went well."""
        self._result("runner_on_ok", "changed" if result.is_changed() else "ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Tell of a task that failed."""
        self._result("runner_on_failed", "failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Tell of a task that was not done."""
        self._result("runner_on_skipped", "skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Tell of a host that was not reached."""
        self._result("runner_on_unreachable", "unreachable", result)

    def v2_on_file_diff(self, result: Any) -> None:
        """Tell what a task changed."""
        if diff := result.result.get("diff"):
            text = self._get_diff(diff)
            if text:
                self._say("runner_on_file_diff", host=result.host, task=result.task, stdout=text, diff=_cut(text))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """End the job."""
        if self._poster is None:
            return
        recap = {host: _counts(stats.summarize(host)) for host in sorted(stats.processed)}
        rc = 4 if stats.dark else 2 if stats.failures else 0
        self._say("playbook_on_stats", stdout=json.dumps(recap))
        if not self._poster.finish(rc, recap):
            self._warn(f"the control API did not get all of this run: {self._poster.problem or 'it is away'}")

    def _open(self, hosts: list[str]) -> None:
        """Open the job; without one nothing is posted."""
        try:
            api = MusterAction.Api(self.get_option("api_url") or "", MusterAction.token(), self.get_option("ca_bundle"), OPEN_S)
            wanted = {"playbook": self._playbook, "hosts": hosts, "check": bool(context.CLIARGS.get("check")), "external": True}
            job = api.post("/v0/jobs", wanted)
            quiet = MusterAction.Api(self.get_option("api_url"), MusterAction.token(), self.get_option("ca_bundle"), 0)
        except (MusterAction.ApiError, AnsibleError, OSError, KeyError, TypeError) as error:
            self.disabled = True
            busy = getattr(error, "code", "") == "host_busy"
            self._warn(f"{'another job has these hosts: ' if busy else 'no job history for this run: '}{error}")
            return
        self._poster = Poster(quiet, job["id"])
        self._poster.start()

    def _result(self, event: str, status: str, result: Any) -> None:
        begun = self._started.pop((result.host.get_name(), result.task._uuid), None)
        text = f"{status}: [{result.host.get_name()}]"
        if status in ("failed", "unreachable") and (said := result.result.get("msg") or result.result.get("stderr")):
            text += f" => {said}"
        duration_s = None if begun is None else time.monotonic() - begun
        self._say(event, host=result.host, task=result.task, status=status, duration_s=duration_s, stdout=text)

    def _say(self, event: str, *, host: Any = None, task: Any = None, stdout: str = "", **fields: Any) -> None:
        if self._poster is None:
            return
        role = getattr(task, "_role", None)
        named = {
            "host": host.get_name() if host else None,
            "task": task.get_name() if task else None,
            "role": role.get_name() if role else None,
        }
        at = datetime.now(UTC).isoformat()
        self._poster.add({"event": event, "at": at, "play": self._play, "stdout": _cut(stdout), **named, **fields})

    def _warn(self, text: str) -> None:
        self._display.warning(MusterAction.visible(f"muster: {text}"))


def _counts(summary: dict[str, int]) -> dict[str, int]:
    names = {"ok": "ok", "changed": "changed", "failures": "failed", "unreachable": "unreachable", "skipped": "skipped"}
    return {ours: summary[theirs] for theirs, ours in names.items()}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}\n… {len(text) - MAX_TEXT} characters cut"
