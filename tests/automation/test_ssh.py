"""Runs over real SSH to a real host: keys pinned, credentials used, sudo, and nothing left on the host after a cancel."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from control_api.access.principal import Principal, with_implied
from control_api.access.schemas import Scope
from control_api.fleet.schemas import CredentialCreate
from tests.automation.site import Site, until
from tests.hosts.conftest import lab as lab
from tests.hosts.lab import Host, Lab

pytestmark = [pytest.mark.anyio, pytest.mark.hosts]

PASSWORD = "correct horse"
ADMIN = Principal("user", "ada", "ada", with_implied([Scope.ADMIN]))


@pytest.fixture(scope="module")
def ssh_host(lab: Lab) -> Iterator[Host]:
    """A fresh host with sshd. User ``ops`` may become root; user ``plain`` must give a password for it."""
    host = lab.boot("jobs", "trixie")
    lab.wait()
    prepare = f"""
        useradd -m -s /bin/bash -G sudo plain && echo 'plain:{PASSWORD}' | chpasswd
        cp -r /home/ops/.ssh /home/plain/ && chown -R plain: /home/plain/.ssh
    """
    host.run("sh", "-ec", prepare)
    yield host
    lab.remove_hosts()


async def add_host(site: Site, ssh_host: Host, user: str = "ops", password: str | None = None, **values: object) -> None:
    async with site.database.control.write() as session:
        key = ssh_host.lab.ssh_key.read_text()
        wanted = CredentialCreate(name=f"{user}-key", ssh_private_key=key, become_password=password)
        credential = await site.fleet.add_credential(session, wanted)
    ssh = {"address": ssh_host.address, "connection": "ssh", "user": user, "become": True, "credential_id": credential.id}
    await site.add_host("gpu-01", **{**ssh, **values})


def sleepers(ssh_host: Host) -> str:
    return ssh_host.run("sh", "-c", "pgrep -af 'sleep 3133[7]|sleep 3133[8]|sleep 3133[9]' || [ $? = 1 ]")


async def test_cancel_leaves_nothing_on_the_host(site: Site, ssh_host: Host) -> None:
    await add_host(site, ssh_host)
    async with site.working():
        job_id = await site.start("remote.yml", "gpu-01")
        await site.printed(job_id, "begun")

        async def all_three() -> bool:
            return all(f"sleep {number}" in sleepers(ssh_host) for number in (31337, 31338, 31339))

        await until(all_three, "the processes on the host")
        assert "root" in ssh_host.run("ps", "-C", "sleep", "-o", "user=")
        await site.post(f"/v0/jobs/{job_id}/cancel")
        job = await site.ended(job_id)
    assert job["status"] == "cancelled"
    assert sleepers(ssh_host) == ""
    assert "could not be seen to" not in await site.output(job_id)


async def test_key_of_the_host_is_pinned_at_first_contact_and_required_afterwards(site: Site, ssh_host: Host) -> None:
    await add_host(site, ssh_host)
    async with site.working():
        first = await site.start("root.yml", "gpu-01")
        assert (await site.ended(first))["status"] == "successful"
        async with site.database.control.read() as session:
            (host,) = await site.fleet.out(session, [await site.fleet.host(session, "gpu-01")])
        assert host.host_key
        assert f"Host key of gpu-01 pinned at first contact: {host.host_key.fingerprint}" in await site.output(first)
        assert host.host_key.key in ssh_host.run("sh", "-c", "cat /etc/ssh/ssh_host_*.pub")

        second = await site.start("root.yml", "gpu-01")
        assert (await site.ended(second))["status"] == "successful"
        assert "pinned" not in await site.output(second)

        other = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        async with site.database.control.write() as session:
            await site.fleet.pin_host_key(session, host.id, other, ADMIN)
        third = await site.ended(await site.start("root.yml", "gpu-01"))
    assert third["status"] == "failed"
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in third["reason"]


@pytest.mark.parametrize(
    ("password", "said"), [(PASSWORD, None), ("wrong", "Incorrect sudo password"), (None, "Missing sudo password")]
)
async def test_sudo_with_a_password(site: Site, ssh_host: Host, password: str | None, said: str | None) -> None:
    await add_host(site, ssh_host, "plain", password)
    async with site.working():
        job = await site.ended(job_id := await site.start("root.yml", "gpu-01"))
    if said:
        assert (job["status"], said in job["reason"]) == ("failed", True), job["reason"]
    else:
        assert job["status"] == "successful", job["reason"]
        assert PASSWORD not in await site.output(job_id)
