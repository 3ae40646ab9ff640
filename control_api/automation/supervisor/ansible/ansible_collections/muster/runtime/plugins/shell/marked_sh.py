# SPDX-License-Identifier: GPL-3.0-or-later
# Imports ansible-core, hence the licence of this file.
"""Shell plugin: the POSIX shell, with the id of the job in the environment of everything that a task starts."""

import os
from typing import Any

from ansible.plugins.shell.sh import ShellModule as PosixShell

DOCUMENTATION = r"""
name: marked_sh
short_description: POSIX shell that marks its processes with a Muster job
description:
  - Like the shell C(sh), but E(MUSTER_JOB_ID) of the controller is set for every module and every command.
  - A module goes on running on the host when its connection ends, since there is no terminal that could hang up.
    By this mark the processes of a cancelled job are found again, also below sudo and when they made themselves daemons.
extends_documentation_fragment:
  - shell_common
"""


class ShellModule(PosixShell):  # type: ignore[misc]
    """The POSIX shell with one more variable."""

    def env_prefix(self, **kwargs: Any) -> str:
        """Return the assignments that precede a command."""
        return str(super().env_prefix(**{"MUSTER_JOB_ID": os.environ["MUSTER_JOB_ID"], **kwargs}))
