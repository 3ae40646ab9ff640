# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `muster_lock`: the lock of a run on the host that it changes. Needs nothing but the standard library."""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, TextIO

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: muster_lock
short_description: Take or release the lock of a run on a host
description:
  - One run at a time changes a host. The lock is a file there, so it also holds between controllers of different fleets.
  - Each run has a number. One lower than a number that has had the lock is refused, so a frozen run cannot come back and write.
  - The control API numbers its jobs upwards. A higher one takes the lock over, as the API has ended the job before.
  - Runs of a shell have numbers of their own. They wait for nobody and are refused while another run has the lock.
author: Muster
attributes:
  check_mode: {support: full, description: Leaves the lock alone.}
  diff_mode: {support: none, description: The lock is no part of what a playbook changes.}
options:
  state:
    description: Whether this run shall have the lock. Taking it again prolongs it.
    type: str
    choices: [held, released]
    default: held
  holder:
    description: Who this run is, for people.
    type: str
    required: true
  kind:
    description: Whether the control API started the run, or somebody else.
    type: str
    choices: [job, shell]
    required: true
  number:
    description: Number of the run. Numbers of one kind rise.
    type: int
    required: true
  valid_s:
    description: How long the lock holds, in seconds.
    type: int
    default: 1800
  broken:
    description: Whether the lock of another run is taken away, since that run is known to be over.
    type: bool
    default: false
  path:
    description: The file.
    type: path
    default: /run/muster/job.lock
"""

EXAMPLES = r"""
- name: Take the lock of the host
  muster_lock:
    holder: job 0199aa
    kind: job
    number: 17
"""

RETURN = r"""
holder:
  description: Who has the lock now; empty when nobody has.
  type: str
  returned: success, but not in check mode
"""


class Refused(Exception):
    """This run may not have the lock; the message says why."""


def take(lock: dict[str, Any], params: dict[str, Any], now: float) -> dict[str, Any]:
    """Return the lock with this run as its holder; raises Refused.

    Parameters:
        lock: what the file says: `numbers` by kind, `holder`, `kind`, `expires_at` (seconds since the epoch).
        params: those of the module.
        now: seconds since the epoch.
    """
    kind, number, holder = params["kind"], params["number"], params["holder"]
    numbers = lock.get("numbers", {})
    if number < numbers.get(kind, 0):
        raise Refused(f"{holder} (number {number}) is out of date: number {numbers[kind]} has had this host since")
    other = lock.get("holder") not in (None, holder) and now < lock.get("expires_at", 0)
    if other and not params["broken"] and not kind == lock["kind"] == "job":
        until = time.strftime("%H:%M:%S UTC", time.gmtime(lock["expires_at"]))
        raise Refused(
            f"this host is being changed by {lock['holder']}, whose lock holds until {until} ({params['path']}). "
            "If that run is over, which could not release it on a host that it lost, run again with muster_break_lock=true"
        )
    return {
        "numbers": numbers | {kind: number},
        "holder": holder,
        "kind": kind,
        "expires_at": int(now) + params["valid_s"],
    }


def release(lock: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Return the lock without this run; the numbers stay. The lock of another run is left as it is."""
    return {"numbers": lock.get("numbers", {})} if lock.get("holder") == params["holder"] else lock


def read(file: TextIO) -> dict[str, Any]:
    """Return what a lock file says; one that says nothing is a lock that nobody has."""
    try:
        content = json.loads(file.read())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def change(params: dict[str, Any]) -> dict[str, Any]:
    """Take or release the lock, and return what the file says then; raises Refused, OSError."""
    Path(params["path"]).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(params["path"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = read(file)
        after = take(before, params, time.time()) if params["state"] == "held" else release(before, params)
        file.seek(0)
        file.truncate()
        json.dump(after, file)
    return after


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
            "holder": {"type": "str", "required": True},
            "kind": {"type": "str", "choices": ["job", "shell"], "required": True},
            "number": {"type": "int", "required": True},
            "valid_s": {"type": "int", "default": 1800},
            "broken": {"type": "bool", "default": False},
            "path": {"type": "path", "default": "/run/muster/job.lock"},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False)
    try:
        lock = change(module.params)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, holder=lock.get("holder", ""))


if __name__ == "__main__":
    main()
