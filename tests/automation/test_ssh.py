"""Runs over real SSH to a real host: keys pinned, credentials used, sudo, and nothing left on the host after a cancel."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from control_api.fleet.schemas import CredentialCreate
from tests.automation.site import REPOSITORY, Site, until

pytestmark = [pytest.mark.anyio, pytest.mark.hosts]

# A host for each process of the test run.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
NAME, OCTET, ADDRESS = f"muster-jobs-{WORKER}", f"{200 + WORKER}", f"10.79.0.{200 + WORKER}"
PASSWORD = "correct horse"


def lab(*arguments: str, check: bool = True) -> str:
    """Run the lab's script and return what it printed."""
    command = [str(REPOSITORY / "tests" / "hosts" / "lab"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def ssh_host() -> Iterator[str]:
    """A fresh host with sshd. User ``ops`` may become root; user ``plain`` must give a password for it."""
    if os.getuid() != 0 or not shutil.which("podman"):
        missing = "real hosts need root and podman"
        if os.environ.get("MUSTER_REQUIRE_HOSTS"):
            pytest.fail(missing)
        pytest.skip(missing)
    lab("setup", "trixie")
    lab("up", NAME, OCTET, "trixie")
    lab("wait", OCTET)
    prepare = f"""
        useradd -m -s /bin/bash -G sudo plain && echo 'plain:{PASSWORD}' | chpasswd
        cp -r /home/ops/.ssh /home/plain/ && chown -R plain: /home/plain/.ssh
    """
    lab("exec", NAME, "sh", "-ec", prepare)
    yield ADDRESS
    lab("down", NAME)


async def add_host(site: Site, user: str = "ops", password: str | None = None, **values: object) -> None:
    async with site.database.control.write() as session:
        key = Path(lab("key")).read_text()
        wanted = CredentialCreate(name=f"{user}-key", ssh_private_key=key, become_password=password)
        credential = await site.fleet.add_credential(session, wanted)
    ssh = {"address": ADDRESS, "connection": "ssh", "user": user, "become": True, "credential_id": credential.id}
    await site.add_host("gpu-01", **{**ssh, **values})


def sleepers() -> str:
    return lab("exec", NAME, "pgrep", "-af", "sleep 3133[789]", check=False)


async def test_cancel_leaves_nothing_on_the_host(site: Site, ssh_host: str) -> None:
    await add_host(site)
    async with site.working():
        job_id = await site.start("remote.yml", "gpu-01")
        await site.printed(job_id, "begun")

        async def all_three() -> bool:
            return all(f"sleep {number}" in sleepers() for number in (31337, 31338, 31339))

        await until(all_three, "the processes on the host")
        assert "root" in lab("exec", NAME, "ps", "-C", "sleep", "-o", "user=")
        await site.post(f"/v0/jobs/{job_id}/cancel")
        job = await site.ended(job_id)
    assert job["status"] == "cancelled"
    assert sleepers() == ""
    assert "could not be seen to" not in await site.output(job_id)


async def test_key_of_the_host_is_pinned_at_first_contact_and_required_afterwards(site: Site, ssh_host: str) -> None:
    await add_host(site)
    async with site.working():
        first = await site.start("root.yml", "gpu-01")
        assert (await site.ended(first))["status"] == "successful"
        async with site.database.control.read() as session:
            (host,) = await site.fleet.out(session, [await site.fleet.host(session, "gpu-01")])
        assert host.host_key
        assert f"Host key of gpu-01 pinned at first contact: {host.host_key.fingerprint}" in await site.output(first)
        assert host.host_key.key in lab("exec", NAME, "sh", "-c", "cat /etc/ssh/ssh_host_*.pub")

        second = await site.start("root.yml", "gpu-01")
        assert (await site.ended(second))["status"] == "successful"
        assert "pinned" not in await site.output(second)

        other = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        async with site.database.control.write() as session:
            await site.fleet.pin_host_key(session, host.id, other)
        third = await site.ended(await site.start("root.yml", "gpu-01"))
    assert third["status"] == "failed"
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in third["reason"]


@pytest.mark.parametrize(
    ("password", "said"), [(PASSWORD, None), ("wrong", "Incorrect sudo password"), (None, "Missing sudo password")]
)
async def test_sudo_with_a_password(site: Site, ssh_host: str, password: str | None, said: str | None) -> None:
    await add_host(site, "plain", password)
    async with site.working():
        job = await site.ended(job_id := await site.start("root.yml", "gpu-01"))
    if said:
        assert (job["status"], said in job["reason"]) == ("failed", True), job["reason"]
    else:
        assert job["status"] == "successful", job["reason"]
        assert PASSWORD not in await site.output(job_id)
