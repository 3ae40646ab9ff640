# SPDX-License-Identifier: GPL-3.0-or-later
# Imports ansible-core, hence the licence of this file.
"""Callback plugin: Ansible ends when the supervisor of its job does, however that ends."""

import ctypes
import os
import signal

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: tied
type: notification
short_description: End with the supervisor of a Muster job
description:
  - The kernel sends Ansible SIGTERM when the process that started it ends. Nothing has touched a host before that is agreed.
requirements:
  - E(MUSTER_SUPERVISOR_PID), which names that process
"""

_PR_SET_PDEATHSIG = 1


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Reports nothing."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "muster.runtime.tied"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if str(os.getppid()) != os.environ["MUSTER_SUPERVISOR_PID"]:
            # It is gone already.
            os.kill(os.getpid(), signal.SIGTERM)
