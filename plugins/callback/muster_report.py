# SPDX-License-Identifier: GPL-3.0-or-later
# Imports ansible-core, hence the licence of this file. Needs nothing but ansible-core and the standard library.
"""Callback `muster_report`: what a run did, as a JSON and a JUnit file, for the pipeline that gates on it."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: muster_report
type: aggregate
short_description: Write what a run did to a JSON and a JUnit file
description:
  - The JSON file says how the run ended and lists, for each host, the counts of its tasks and how each task ended.
  - The JUnit file has a suite for each host and a case for each task. Failed and unreachable tasks are failures.
  - A run that touched none of the hosts that it may change is a failure in both, whatever its exit status.
  - Only what a task says of itself is written, and nothing of a task with C(no_log).
author: Muster
requirements:
  - enabled by E(ANSIBLE_CALLBACKS_ENABLED), or C(callbacks_enabled) in ansible.cfg
options:
  json_file:
    description: Where to write the JSON file. Not set, none is written.
    type: path
    env: [{name: MUSTER_REPORT_JSON}]
  junit_file:
    description: Where to write the JUnit file. Not set, none is written.
    type: path
    env: [{name: MUSTER_REPORT_JUNIT}]
"""

CONTROLLER = "localhost"
BAD = ("failed", "unreachable")
COUNTS = {"ok": "ok", "changed": "changed", "failures": "failed", "unreachable": "unreachable", "skipped": "skipped"}
MAX_TEXT = 16 << 10


class CallbackModule(CallbackBase):
    """Collects how tasks end, and writes the files when the run is over."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "muster_report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._playbook = self._play = ""
        self._begun_at = datetime.now(UTC)
        self._started: dict[tuple[str, str], float] = {}
        self._tasks: dict[str, list[dict[str, Any]]] = {}

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Remember what is run."""
        self._playbook = Path(playbook._file_name).name

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Remember the play."""
        self._play = play.get_name()

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Take the time."""
        self._started[host.get_name(), task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Note a task that went well."""
        self._note("changed" if result.is_changed() else "ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Note a task that failed; one whose failure counts for nothing went well."""
        self._note("ok" if ignore_errors else "failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Note a task that was not done."""
        self._note("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Note a host that was not reached."""
        self._note("unreachable", result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write the files; what goes wrong with them is a warning."""
        report = self._report(stats)
        for option, text in (
            ("json_file", json.dumps(report, indent=2).replace("\x7f", "\\u007f") + "\n"),
            ("junit_file", junit(report)),
        ):
            if path := self.get_option(option):
                try:
                    Path(path).write_text(text)
                except OSError as error:
                    self._display.warning(f"muster_report: {error}")

    def _note(self, status: str, result: Any) -> None:
        host, task = result.host.get_name(), result.task
        begun = self._started.pop((host, task._uuid), None)
        said = result.result.get("msg") or result.result.get("stderr") or ""
        role = task._role.get_name() if task._role else None
        self._tasks.setdefault(host, []).append(
            {
                "play": self._play,
                "role": role,
                "task": task.get_name(),
                "status": status,
                "duration_s": round(time.monotonic() - begun, 3) if begun else None,
                "message": str(said)[:MAX_TEXT] if status in BAD and not task.no_log else None,
            }
        )

    def _report(self, stats: Any) -> dict[str, Any]:
        recap = {host: {ours: stats.summarize(host)[name] for name, ours in COUNTS.items()} for host in sorted(stats.processed)}
        touched = [host for host in recap if host != CONTROLLER]
        bad = [host for host, counts in recap.items() if any(counts[name] for name in BAD)]
        reason = f"failed on {', '.join(bad)}" if bad else None if touched else "no host was touched"
        return {
            "playbook": self._playbook,
            "check": bool(context.CLIARGS.get("check")),
            "started_at": self._begun_at.isoformat(),
            "finished_at": datetime.now(UTC).isoformat(),
            "successful": reason is None,
            "reason": reason,
            "hosts": {host: {**counts, "tasks": self._tasks.get(host, [])} for host, counts in recap.items()},
        }


def junit(report: dict[str, Any]) -> str:
    """Return a report as JUnit XML."""
    root = ElementTree.Element("testsuites", name=_printable(report["playbook"]))
    for host, found in report["hosts"].items():
        suite = ElementTree.SubElement(root, "testsuite", name=_printable(host), timestamp=report["started_at"])
        for task in found["tasks"]:
            suite.append(_case(host, task))
    if not any(host != CONTROLLER for host in report["hosts"]):
        suite = ElementTree.SubElement(root, "testsuite", name=_printable(report["playbook"]), timestamp=report["started_at"])
        suite.append(_case("hosts", {"task": "Touch a host", "status": "failed", "message": report["reason"]}))
    for element in (*root, root):
        for name, count in _totals(element):
            element.set(name, str(count))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(host: str, task: dict[str, Any]) -> ElementTree.Element:
    where = ": ".join(part for part in (task.get("play"), task.get("role")) if part) or host
    case = ElementTree.Element("testcase", classname=_printable(where), name=_printable(task["task"]))
    case.set("time", str(task.get("duration_s") or 0))
    if task["status"] in BAD:
        message = _printable(task["message"] or task["status"])
        ElementTree.SubElement(case, "failure", type=task["status"], message=message.splitlines()[0][:200]).text = message
    if task["status"] == "skipped":
        ElementTree.SubElement(case, "skipped")
    return case


def _totals(element: ElementTree.Element) -> Iterator[tuple[str, int]]:
    yield "tests", len(list(element.iter("testcase")))
    yield "failures", len(list(element.iter("failure")))
    yield "skipped", len(list(element.iter("skipped")))


def _printable(text: str) -> str:
    """Return text in which control and invisible characters are written out: XML holds few of them, and they act on readers."""
    kept = " \n\t"
    return "".join(char if char in kept or char.isprintable() else char.encode("unicode_escape").decode() for char in text)
