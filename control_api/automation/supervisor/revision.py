"""Which version of the playbooks a run used."""

import subprocess
from pathlib import Path

TIMEOUT_S = 5


def project_revision(project_dir: Path) -> str | None:
    """Return the commit of a checkout, with ``-dirty`` if files differ from it; None if it is none or git cannot tell."""
    if not (project_dir / ".git").exists():
        return None
    command = ["git", "-C", str(project_dir), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip()[:64] or None if done.returncode == 0 else None
