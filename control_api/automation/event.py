"""Events of a run: from what ansible-runner hands over to a row of the store, cleaned of secrets and of what no store takes."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from control_api.kit.clock import utcnow

MAX_TEXT_BYTES = 64 << 10
HIDDEN = "********"

# What the columns of job_event hold.
_LIMITS = {"event": 64, "host": 256, "play": 512, "role": 256, "task": 512}
_USERINFO = re.compile(r"(?<=://)[^\s/@\"'<>\\]+(?=@)")
_STATUS = {
    "runner_on_failed": "failed",
    "runner_item_on_failed": "failed",
    "runner_on_skipped": "skipped",
    "runner_item_on_skipped": "skipped",
    "runner_on_unreachable": "unreachable",
    "runner_on_async_failed": "failed",
}
_TASK_ENDED = ("runner_on_ok", "runner_on_failed", "runner_on_skipped", "runner_on_unreachable", "runner_on_async_ok")
_RECAP = {"ok": "ok", "changed": "changed", "failures": "failed", "dark": "unreachable", "skipped": "skipped"}


def clean(text: str, max_bytes: int) -> str:
    """Return text that a database takes: no NUL, no lone surrogates, at most ``max_bytes`` and a mark where it was cut."""
    encoded = text.replace("\0", "").encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    return encoded[:max_bytes].decode("utf-8", "ignore") + f"\n… {len(encoded) - max_bytes} bytes cut"


class Redactor:
    """Hides registered secrets, also as they look inside JSON, and passwords in URLs."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret.strip() for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(_pattern, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        if self._secrets:
            text = self._secrets.sub(HIDDEN, text)
        return _USERINFO.sub(HIDDEN, text)


def fitted(values: Mapping[str, Any], redact: Redactor) -> dict[str, Any]:
    """Return the values of an event as its row takes them: without secrets, and not longer than its columns."""
    texts = {name: clean(redact(value), MAX_TEXT_BYTES) for name, value in values.items() if isinstance(value, str)}
    return {**values, **{name: text[: _LIMITS.get(name)] for name, text in texts.items()}}


def _forms(secret: str) -> set[str]:
    """How a secret may look in output: as it is, in JSON, in YAML; and each line of a private key that is one of many."""
    lines = {line.strip() for line in secret.splitlines() if len(line.strip()) >= 16 and not line.startswith("-----")}
    escaped = {json.dumps(secret.strip(), ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    return {secret.strip(), secret.strip().replace("'", "''"), *escaped, *lines}


def _pattern(form: str) -> str:
    """Match a form also where long lines were folded."""
    return r"\s+".join(map(re.escape, form.split()))


@dataclass
class RunLog:
    """Turns the events of one attempt into rows and remembers what its result depends on.

    Attributes
    ----------
    made: how many events the attempt had, also those that got lost on the way; the store says how many arrived.
    recap: per host the counts of its tasks, known when the run is over.
    errors: per host the first message of what went wrong on it.
    """

    job_id: str
    attempt: int
    redact: Redactor
    made: int = 0
    recap: dict[str, dict[str, int]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    last_error: str | None = None
    _diffs: dict[str, str] = field(default_factory=dict)
    _highest: int = 0
    _seen: int = 0

    def lost(self) -> None:
        """Count an event that could not be read."""
        self.made += 1

    @property
    def expected(self) -> int:
        """How many events should be stored: those made, and those that ansible-runner numbered but never handed over."""
        return self.made + max(0, self._highest - self._seen)

    def note(self, text: str, *, host: str | None = None, status: str | None = None) -> dict[str, Any]:
        """Return the row of something that the supervisor itself has to say."""
        return self._row({"event": "supervisor", "at": utcnow(), "host": host, "status": status, "stdout": text})

    def row(self, raw: dict[str, Any]) -> dict[str, Any] | None:
        """Return the row of an event of ansible-runner; None for one that says nothing."""
        self._seen += 1
        self._highest = max(self._highest, int(raw.get("counter", 0)))
        name, data = str(raw.get("event", "")), raw.get("event_data") or {}
        if not data and not raw.get("stdout"):
            return None
        if name == "playbook_on_stats":
            self.recap = _recap(data)
        status = _status(name, data)
        self._remember(name, status, data, raw)
        diff = self._diff(name, data, str(raw.get("stdout") or ""))
        return self._row(
            {
                "event": name,
                "at": _time(raw.get("created")),
                **{part: _text(data.get(part)) for part in ("host", "play", "role", "task")},
                "status": status,
                "duration_s": _number(data.get("duration")),
                "stdout": str(raw.get("stdout") or ""),
                "diff": diff,
            }
        )

    def _row(self, values: dict[str, Any]) -> dict[str, Any]:
        self.made += 1
        missing = dict.fromkeys(("play", "role", "task", "duration_s", "diff"))
        return {**missing, **fitted(values, self.redact), "job_id": self.job_id, "attempt": self.attempt, "counter": self.made}

    def _diff(self, name: str, data: dict[str, Any], stdout: str) -> str | None:
        """Return the difference that a task made on a host, which was reported just before its end; else what it says of it."""
        host = str(data.get("host"))
        if name == "runner_on_file_diff":
            # Ansible writes to a terminal.
            self._diffs[host] = (self._diffs.get(host, "") + stdout.replace("\r\n", "\n"))[:MAX_TEXT_BYTES]
        if name in _TASK_ENDED:
            diff = self._diffs.pop(host, "").strip()
            return diff or (_said(data) if _status(name, data) == "changed" else None)
        return None

    def _remember(self, name: str, status: str | None, data: dict[str, Any], raw: dict[str, Any]) -> None:
        if status in ("failed", "unreachable") and not data.get("ignore_errors") and data.get("host"):
            result = data.get("res") or {}
            said = f"{status} in task '{data.get('task', '')}': {result.get('msg') or result.get('censored') or 'no message'}"
            self.errors.setdefault(data["host"], " ".join(clean(self.redact(said), 500).split()))
        if name in ("error", "warning", "verbose") and "ERROR" in str(raw.get("stdout")):
            self.last_error = " ".join(clean(self.redact(str(raw["stdout"])), 800).split())


def _status(name: str, data: dict[str, Any]) -> str | None:
    if name in ("runner_on_ok", "runner_item_on_ok", "runner_on_async_ok"):
        return "changed" if (data.get("res") or {}).get("changed") else "ok"
    return _STATUS.get(name)


def _said(data: dict[str, Any]) -> str | None:
    message = (data.get("res") or {}).get("msg")
    return message if isinstance(message, str) and message else None


def _recap(data: dict[str, Any]) -> dict[str, dict[str, int]]:
    hosts = {host for kind in ("processed", *_RECAP) for host in data.get(kind) or {}}
    return {host: {ours: int((data.get(kind) or {}).get(host, 0)) for kind, ours in _RECAP.items()} for host in sorted(hosts)}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _time(created: Any) -> datetime:
    try:
        at = datetime.fromisoformat(str(created))
    except ValueError:
        return utcnow()
    return at if at.tzinfo else utcnow()
