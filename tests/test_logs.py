"""What processes log."""

import subprocess
import sys

from tests.processes import PROJECT

FAILS = """
import structlog
from control_api import logs
from control_api.settings import Settings
logs.configure(Settings(log_format={format!r}), "test")
def fails(password):
    raise ValueError("a mistake")
try:
    fails("se" + "cret-value")
except ValueError:
    structlog.get_logger().exception("failed")
"""


def test_a_traceback_shows_no_values() -> None:
    """Not in either format: passwords and keys are among the variables."""
    for format_ in ("console", "json"):
        command = [sys.executable, "-c", FAILS.format(format=format_)]
        logged = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True).stderr
        assert "a mistake" in logged
        assert "Traceback" in logged
        assert "secret-value" not in logged
