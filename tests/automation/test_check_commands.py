"""``muster plan``, ``muster apply`` and ``muster drift``, against a whole control API with its worker."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.automation.site import REPOSITORY
from tests.running import Api, running_api, settings_for

pytestmark = pytest.mark.anyio


async def muster(api: Api, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``muster`` without stopping the API's loop, which is this one."""
    environment = {"MUSTER_API_URL": api.url, "MUSTER_API_KEY": api.key, "PATH": os.defpath, "HOME": "/nonexistent"}
    command = [sys.executable, "-m", "control_api.cli", *arguments]
    options = {"cwd": REPOSITORY, "env": environment, "capture_output": True, "text": True, "timeout": 60, "check": False}
    return await asyncio.to_thread(subprocess.run, command, **options)


async def test_plan_apply_and_drift(project: Path, run_dir: Path, tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "supported_models.json", project)
    # The options that the host of this machine is made with.
    for role in ("gpu_host", "node_service"):
        shutil.copytree(REPOSITORY / "roles" / role / "meta", project / "roles" / role / "meta")
    target = tmp_path / "written"
    settings = settings_for(tmp_path, project_dir=project, run_dir=run_dir)
    async with running_api(settings, with_worker=True, local_node=True) as api:
        (host,) = await api.client.hosts.list()
        patched = await api.http.patch(f"/v0/hosts/{host.id}", json={"variables": host.variables | {"demo_file": str(target)}})
        assert patched.status_code == 200, patched.text
        assert "never" in (await muster(api, "drift", "show")).stdout

        planned = await muster(api, "plan", "--hosts", host.name)
        assert planned.returncode == 0, planned.stderr
        assert f"{host.name}: Write a file" in planned.stdout
        assert "+hello" in planned.stdout
        assert not target.exists()
        plan_hash = planned.stdout.split()[-1]
        applied = await muster(api, "apply", plan_hash, "--watch")
        assert (applied.returncode, target.read_text()) == (0, "hello\n"), applied.stderr
        again = await muster(api, "apply", plan_hash)
        assert (again.returncode, f"host {host.name}" in again.stderr) == (1, True)

        in_sync = await muster(api, "drift", "check")
        assert (in_sync.returncode, "in_sync" in in_sync.stdout) == (0, True), in_sync.stderr
        target.write_text("hellO\n")
        drifted = await muster(api, "drift", "check", host.name)
        assert (drifted.returncode, "muster drift apply" in drifted.stderr) == (2, True)
        shown = await muster(api, "drift", "show")
        assert (shown.returncode, "1 of" in shown.stdout, "-hellO" in shown.stdout) == (0, True, True)
