"""Muster itself on a real host, from bare Debian to backup, restore, upgrade, a release that is taken back, and a reboot.

The tests are steps of one story and run in this order.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from control_api.kit.secretbox import SecretBox, new_token
from control_api.migrations.runner import schemas
from control_api.settings import Settings
from control_api.wheelhouse import CONTROL_PLANE, build_wheelhouse
from tests.ansible.runs import Run
from tests.hosts.lab import Host, Lab, LabError
from tests.processes import PROJECT, answers, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.hosts, pytest.mark.timeout(1500), pytest.mark.xdist_group("lab-control-plane")]

PLAY_TIMEOUT_S = 900
SERVICES = ["muster-api", "muster-worker", "muster-router@1", "muster-router@2", "muster-dashboard"]
MIGRATION = '''"""A table of a later version."""

import sqlalchemy as sa
from alembic import op

revision = "00000000cafe"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("of_a_later_version", sa.Column("id", sa.Integer, primary_key=True))


def downgrade() -> None:
    op.drop_table("of_a_later_version")
'''


@dataclass(frozen=True)
class Site:
    """A host that becomes a control plane, another one for its jobs, and Ansible with a static inventory of the first."""

    host: Host
    other: Host
    directory: Path
    environment: dict[str, str]
    key: str

    def play(self, playbook: str, *arguments: str, **variables: object) -> Run:
        """Run a playbook with extra variables."""
        inventory = str(self.directory / "inventory.yml")
        command = ["ansible-playbook", "-i", inventory, f"playbooks/{playbook}", *arguments]
        return _run([*command, "--extra-vars", json.dumps(variables)], self.environment)

    @property
    def headers(self) -> dict[str, str]:
        """Return what an admin sends."""
        return {"authorization": f"Bearer {self.key}"}

    def url(self, process: str) -> str:
        """Return where a process listens."""
        return f"http://{self.host.address}:{ {'api': 8080, 'router': 8000, 'dashboard': 8081}[process] }"

    def status(self, process: str, path: str, *, key: bool) -> int:
        """Return the status of an answer, with the key or without."""
        return httpx2.get(self.url(process) + path, headers=self.headers if key else {}, timeout=20).status_code

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the control API."""
        answer = httpx2.request(method, self.url("api") + path, json=body, headers=self.headers, timeout=20)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def ended(self, job_id: str) -> dict[str, Any] | None:
        """Return a job, None while it has not ended."""
        job: dict[str, Any] = self.api("GET", f"/v0/jobs/{job_id}")
        return job if job["status"] not in ("queued", "running") else None

    def hosts(self) -> list[str]:
        """Return the names of the hosts that the store knows."""
        return sorted(host["name"] for host in self.api("GET", "/v0/hosts")["items"])

    def release(self) -> str:
        """Return the release that runs."""
        return self.host.run("readlink", "/opt/muster/current").strip()

    def show(self, name: str) -> list[str]:
        """Return a property of each service."""
        return [self.host.run("systemctl", "show", "--value", f"--property={name}", one).strip() for one in SERVICES]

    def sql(self, statement: str) -> str:
        """Ask PostgreSQL as its owner."""
        return self.host.run("runuser", "-u", "postgres", "--", "psql", "-tAc", statement, "muster").strip()

    def wait_until_active(self) -> None:
        """Wait until every service runs and those with a port answer."""
        wait_for(lambda: set(self.show("ActiveState")) == {"active"}, what="all services to be active", timeout_s=90)
        for process in ("api", "router", "dashboard"):
            url = f"{self.url(process)}/healthz"
            wait_for(lambda url=url: answers(url), what=f"{url} to answer", timeout_s=60)  # type: ignore[misc]


def _run(command: list[str], environment: dict[str, str]) -> Run:
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, text=True, timeout=PLAY_TIMEOUT_S, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return Run(done.returncode, done.stdout)


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two bare hosts."""
    directory = tmp_path_factory.mktemp("controller")
    wheelhouse = Settings().cache_dir / "wheelhouse-control-plane"
    build_wheelhouse(wheelhouse, project_dir=PROJECT, pythons=["3.13"], product=CONTROL_PLANE)
    host, other = lab.boot("control", "trixie"), lab.boot("gpu", "bookworm")
    lab.wait()
    key = new_token("mk")
    variables = {
        "control_plane_node_wheelhouse_dir": str(_nodes_wheelhouse(directory / "nodes")),
        "ansible_user": "ops",
        "ansible_ssh_private_key_file": str(lab.ssh_key),
        "ansible_ssh_common_args": f"-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={directory / 'known_hosts'}",
        "control_plane_wheelhouse_dir": str(wheelhouse),
        "control_plane_bootstrap_api_key": key,
    }
    inventory = {"control_plane": {"hosts": {"control": {"ansible_host": host.address}}, "vars": variables}}
    (directory / "inventory.yml").write_text(yaml.safe_dump(inventory))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
    }
    yield Site(host, other, directory, environment, key)
    lab.remove_hosts()


def _nodes_wheelhouse(directory: Path) -> Path:
    """Make what looks like a wheelhouse of the node service."""
    directory.mkdir()
    texts = {
        "one.tar": "wheels",
        "SHA256SUMS": "",
        "manifest.json": json.dumps({"bundles": [{"file": "one.tar"}]}),
        "old.tar": "",
    }
    for name, text in texts.items():
        (directory / name).write_text(text)
    return directory


@pytest.fixture(scope="module")
def bare_check(site: Site) -> Run:
    """Check mode before anything was done."""
    return site.play("control_plane.yml", "--check", "--diff")


@pytest.fixture(scope="module")
def installed(bare_check: Run, site: Site) -> Site:
    """The host with a control plane."""
    run = site.play("control_plane.yml")
    assert run.rc == 0, run.output
    return site


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The wheelhouse of a later version, which has one more table."""
    project = tmp_path_factory.mktemp("next") / "project"
    for name in dict.fromkeys((*CONTROL_PLANE.packages, *CONTROL_PLANE.project)):
        source, target = PROJECT / name, project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    pyproject = project / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('\nversion = "', '\nversion = "99.'))
    head = schemas(Settings())[0].head()
    (project / "control_api/migrations/control/versions/later.py").write_text(MIGRATION.format(head=head))
    wheelhouse = project.parent / "wheelhouse"
    build_wheelhouse(wheelhouse, project_dir=project, pythons=["3.13"], product=CONTROL_PLANE)
    return str(wheelhouse)


def test_check_mode_on_a_bare_host_says_what_it_would_do(bare_check: Run) -> None:
    assert bare_check.rc == 0, bare_check.output
    for said in ("would install openssh-client, postgresql-client, postgresql", "would install release", "start release"):
        assert said in bare_check.output
    assert bare_check.changed()["control"] > 0


def test_api_router_and_dashboard_answer_with_a_key_and_refuse_without(installed: Site) -> None:
    assert installed.show("ActiveState") == ["active"] * 5
    for process, path in (("api", "/readyz"), ("api", "/v0/hosts"), ("router", "/v1/models")):
        assert [installed.status(process, path, key=key) for key in (True, False)] == [200, 401]
    assert installed.status("dashboard", "/healthz", key=False) == 200
    assert installed.status("dashboard", "/hosts", key=False) in (302, 303)


def test_jobs_find_the_wheelhouse_of_the_nodes(installed: Site) -> None:
    listed = installed.host.run("find", "/var/lib/muster-control/cache/wheelhouse", "-type", "f", "-user", "muster-control")

    assert sorted(Path(name).name for name in listed.split()) == ["SHA256SUMS", "manifest.json", "one.tar"]


def test_a_job_of_the_installed_worker_changes_another_host(installed: Site, lab: Lab) -> None:
    """Ansible, its forks and ssh, in the sandbox of the unit. Two containers of one machine are two machines."""
    secret = {"name": "lab", "ssh_private_key": lab.ssh_key.read_text()}
    credential = installed.api("POST", "/v0/credentials", secret)["id"]
    variables = {"gpu_host_require_gpu": False, "gpu_host_firewall_sources": ["192.0.2.0/24"]}
    site_data = "mkdir -p /etc/muster/site/host_vars && echo gpu_host_user: llm >/etc/muster/site/host_vars/gpu-1.yml"
    installed.host.run("sh", "-c", site_data)
    known = {"name": "gpu-1", "address": installed.other.address, "user": "ops", "credential_id": credential}
    installed.api("POST", "/v0/hosts", {**known, "variables": variables})

    asked = installed.api("POST", "/v0/jobs", {"playbook": "provision.yml", "hosts": ["gpu-1"]})
    job = wait_for(lambda: installed.ended(asked["id"]), what="the job to end", timeout_s=180)

    assert job["status"] == "successful", (job["reason"], installed.host.run("journalctl", "-u", "muster-worker", "-n", "50"))
    assert job["events"]["stored"] == job["events"]["expected"]
    assert installed.other.run("getent", "passwd", "llm").startswith("llm:")
    assert "192.0.2.0/24" in installed.other.run("nft", "list", "table", "inet", "muster")
    installed.api("DELETE", "/v0/hosts/gpu-1")


def test_each_user_sees_its_own_secrets_only(installed: Site) -> None:
    listed = installed.host.run("find", "/etc/muster/secrets", "-mindepth", "1", "-printf", "%m %u %P\n")
    modes = {line.split()[2]: line.split()[:2] for line in listed.splitlines()}

    assert modes["control"] == ["700", "muster-control"]
    assert modes["control/muster_credentials_key"] == ["600", "muster-control"]
    assert {name for name, (_, user) in modes.items() if user == "muster-router"} == {
        "router", "router/muster_routing_key", "router/muster_database_url",
    }  # fmt: skip
    assert installed.sql("SELECT has_table_privilege('muster-router', 'credential', 'SELECT')") == "f"
    assert installed.sql("SELECT has_table_privilege('muster-router', 'api_key', 'SELECT')") == "t"
    environments = "".join(installed.host.run("cat", f"/proc/{pid}/environ") for pid in installed.show("MainPID"))
    assert installed.key not in environments


def test_a_second_run_and_check_mode_change_nothing(installed: Site) -> None:
    processes = installed.show("MainPID")
    for arguments in ((), ("--check", "--diff")):
        run = installed.play("control_plane.yml", *arguments)

        assert run.rc == 0, run.output
        assert set(run.changed().values()) == {0}, run.output
    assert installed.show("MainPID") == processes


def test_what_is_killed_comes_back(installed: Site) -> None:
    before = installed.show("MainPID")
    installed.host.run("kill", "-9", *before)

    wait_for(lambda: not set(installed.show("MainPID")) & {*before, "0"}, what="new processes", timeout_s=60)
    installed.wait_until_active()


def test_a_key_that_is_not_the_stores_is_refused(installed: Site) -> None:
    kept = installed.host.run("cat", "/etc/muster/secrets/control/muster_routing_key").strip()

    run = installed.play("control_plane.yml", control_plane_routing_key=SecretBox.new_key())

    assert run.rc == 2
    assert "control_plane_routing_key is not the key in" in run.output
    assert kept not in run.output


def test_a_backup_brings_back_what_was(installed: Site) -> None:
    backups = installed.directory / "backups"
    installed.api("POST", "/v0/hosts", {"name": "before", "address": "192.0.2.1"})
    saved = installed.play("backup.yml", control_plane_backup_fetch_dir=str(backups))
    assert saved.rc == 0, saved.output
    [archive] = backups.iterdir()
    installed.api("POST", "/v0/hosts", {"name": "after", "address": "192.0.2.2"})

    careful = installed.play("restore.yml", control_plane_restore_archive=str(archive))
    known = installed.hosts()
    restored = installed.play("restore.yml", control_plane_restore_archive=str(archive), control_plane_restore_force=True)

    assert archive.stat().st_mode & 0o777 == 0o600
    assert (careful.rc, known) == (2, ["after", "before"])
    assert "The store is in use (2 host" in careful.output
    assert restored.rc == 0, restored.output
    assert installed.hosts() == ["before"]
    assert len(installed.host.run("ls", "/var/backups/muster").split()) == 2
    assert installed.status("router", "/v1/models", key=True) == 200


def test_a_bad_backup_is_named_and_nothing_is_touched(installed: Site) -> None:
    bad = installed.directory / "bad.tar"
    [archive] = (installed.directory / "backups").iterdir()
    bad.write_bytes(archive.read_bytes()[:20_000])
    processes = installed.show("MainPID")

    run = installed.play("restore.yml", control_plane_restore_archive=str(bad), control_plane_restore_force=True)

    assert run.rc == 2
    assert "bad.tar cannot be restored; nothing was changed" in run.output
    assert installed.show("MainPID") == processes


def test_a_broken_release_is_taken_back_with_its_store(installed: Site, next_version: str) -> None:
    """The later version migrates, and then cannot listen on an address that the host does not have."""
    release, hosts = installed.release(), installed.hosts()

    run = installed.play(
        "control_plane.yml",
        control_plane_wheelhouse_dir=next_version,
        control_plane_api_host="192.0.2.7",
        control_plane_start_timeout_s=20,
    )

    assert run.rc == 2
    assert "which runs again" in run.output
    assert "192.0.2.7" in run.output
    assert (installed.release(), installed.hosts()) == (release, hosts)
    assert installed.sql("SELECT to_regclass('of_a_later_version') IS NULL") == "t"
    installed.wait_until_active()


def test_an_upgrade_migrates_and_keeps_the_data(installed: Site, next_version: str) -> None:
    hosts = installed.hosts()

    run = installed.play("control_plane.yml", control_plane_wheelhouse_dir=next_version)

    assert run.rc == 0, run.output
    assert "/99." in installed.release()
    assert installed.hosts() == hosts
    assert installed.sql("SELECT to_regclass('of_a_later_version') IS NULL") == "f"
    assert installed.status("router", "/v1/models", key=True) == 200


def test_everything_runs_after_a_reboot(installed: Site) -> None:
    hosts, boot = installed.hosts(), _boot(installed.host)
    installed.host.run("systemctl", "--no-block", "reboot")

    wait_for(lambda: _boot(installed.host) not in ("", boot), what="the host to be back", timeout_s=90)
    installed.wait_until_active()
    assert installed.hosts() == hosts


def _boot(host: Host) -> str:
    """Return when the host was started; nothing while it is down."""
    try:
        return host.run("systemctl", "show", "--property=UserspaceTimestamp", "--value").strip()
    except LabError:
        return ""
