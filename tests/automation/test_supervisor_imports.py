"""What a supervisor loads: each job pays for it."""

import subprocess
import sys


def test_supervisor_loads_nothing_of_the_web() -> None:
    program = "import control_api.automation.supervisor.main, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert "control_api.automation.supervisor.main" in loaded
    assert not loaded & {"fastapi", "starlette", "uvicorn", "typer", "httpx2", "ansible"}
