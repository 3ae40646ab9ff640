"""The role gpu_host on real hosts whose kernel shows NVIDIA cards: everything up to the kernel module, which is a fake.

The driver comes from a repository in the shape of NVIDIA's, or from Debian's own. The tests of `machine`
are steps of one story.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from control_api.wheelhouse import build_wheelhouse
from tests.ansible.fake_api import FakeApi
from tests.ansible.runs import Ansible, Run
from tests.ansible.standin_project import make_project
from tests.hosts.driver_repository import KEY, Repository, driver_repository
from tests.hosts.hardware import AUDIO, B200, H100, L4, NVSWITCH, P40, install_hardware
from tests.hosts.lab import Host, Lab, LabError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.xdist_group("lab-gpu-host")]

PROVISION = "playbooks/provision.yml"
CONVERGE = "playbooks/converge.yml"
DRIVER_ONLY = ("--tags", "gpu_host_install")


@dataclass(frozen=True)
class Controller:
    """Ansible with a fake API, a wheelhouse and the repository."""

    api: FakeApi
    ansible: Ansible
    repository: Repository

    def play(self, playbook: str, *hosts: Host, arguments: tuple[str, ...] = (), **variables: object) -> Run:
        """Run a playbook over these hosts with extra variables."""
        names = ",".join(["localhost", *(host.name for host in hosts)])
        return self.ansible.playbook(playbook, "--limit", names, *arguments, "--extra-vars", json.dumps(variables))

    def add(self, host: Host, **variables: object) -> Host:
        """Make a host known."""
        self.api.add_host(host.name, address=host.address, variables=variables)
        return host


@pytest.fixture(scope="module")
def booted(lab: Lab) -> Host:
    """A host before anything is done to it. This machine has its address in the lab only while there are hosts."""
    host = lab.boot("h100", "trixie", route=False)
    lab.wait()
    return host


@pytest.fixture(scope="module")
def controller(lab: Lab, booted: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    folder = tmp_path_factory.mktemp("controller")
    build_wheelhouse(folder / "wheelhouse", project_dir=make_project(folder / "project"), pythons=["3.13"])
    with FakeApi(address=lab.gateway) as api, driver_repository(folder / "nvidia", lab.gateway) as repository:
        environment = {"MUSTER_CACHE_DIR": str(folder), "ANSIBLE_PRIVATE_KEY_FILE": str(lab.ssh_key)}
        yield Controller(api, Ansible(api, folder, **environment), repository)
    lab.remove_hosts()


@pytest.fixture(scope="module")
def machine(lab: Lab, booted: Host, controller: Controller) -> Host:
    """A host with no way out but a proxy, without Debian's repositories: one card with NVSwitches, and nouveau has it."""
    install_hardware(booted, [H100, NVSWITCH, AUDIO], nouveau=True)
    booted.run("find", "/etc/apt/sources.list.d", "-type", "f", "-delete")
    site = {"muster_proxy_env": {"http_proxy": controller.repository.url}, "muster_no_proxy": lab.gateway}
    return controller.add(booted, gpu_host_driver="nvidia", gpu_host_driver_repository_url="http://packages.example", **site)


def fails(host: Host, *command: str) -> bool:
    try:
        host.run(*command)
    except LabError:
        return True
    return False


def driver(host: Host) -> str:
    """Return the version that answers."""
    return host.run("nvidia-smi").split()[-1]


def said(run: Run) -> str:
    """Return the output without line breaks."""
    return " ".join(run.output.split())


def test_check_mode_says_what_it_would_install_and_does_nothing(controller: Controller, machine: Host) -> None:
    run = controller.play(PROVISION, machine, arguments=(*DRIVER_ONLY, "--check"), gpu_host_driver_version="580.105.08")

    assert run.rc == 0, run.output
    assert "would install nvidia-kernel-open-dkms=580.105.08*, nvidia-driver-cuda=580.105.08*" in said(run)
    assert fails(machine, "test", "-e", "/etc/modprobe.d/muster-nvidia.conf")
    assert fails(machine, "test", "-e", "/usr/bin/nvidia-smi")


def test_a_driver_that_needs_a_reboot_says_so(controller: Controller, machine: Host) -> None:
    run = controller.play(PROVISION, machine, gpu_host_driver_version="580.105.08")

    assert run.rc != 0
    assert "gpu_host_allow_reboot is false: reboot this host, or let the playbook do it" in said(run)
    assert "couldn't communicate with the NVIDIA driver" in said(run)
    assert "blacklist nouveau" in machine.run("sh", "-c", "cat /boot/initrd.img-$(uname -r)")


def test_the_host_is_rebooted_where_that_is_allowed(controller: Controller, machine: Host) -> None:
    run = controller.play(
        PROVISION, machine, arguments=DRIVER_ONLY, gpu_host_driver_version="580.105.08", gpu_host_allow_reboot=True
    )

    assert run.rc == 0, run.output
    assert driver(machine) == "580.105.08"
    services = ["nvidia-persistenced", "nvidia-fabricmanager"]
    assert machine.run("systemctl", "is-active", *services).split() == ["active", "active"]
    assert machine.run("dpkg-query", "--show", "--showformat=${Version}", "nvidia-fabricmanager") == "580.105.08-1"


def test_a_second_run_and_check_mode_change_nothing(controller: Controller, machine: Host) -> None:
    for version, arguments in (("580", ()), ("", ("--check",))):
        run = controller.play(PROVISION, machine, arguments=(*DRIVER_ONLY, *arguments), gpu_host_driver_version=version)

        assert run.rc == 0, run.output
        assert run.changed()[machine.name] == 0, run.output


def test_upgrades_of_the_host_leave_the_driver_alone(machine: Host) -> None:
    machine.run("apt-get", "update", "-qq")

    assert "590.44.01" in machine.run("apt-cache", "policy", "nvidia-driver-cuda")
    assert "0 upgraded, 0 newly installed" in machine.run("apt-get", "--simulate", "dist-upgrade")


def test_a_driver_in_use_is_replaced_only_in_the_switch(controller: Controller, machine: Host) -> None:
    waiting = controller.play(CONVERGE, machine, gpu_host_driver_version="580.95.05")
    assert waiting.rc == 0, waiting.output
    assert "is downloaded and waits, since it needs a reboot and gpu_host_allow_reboot is false" in said(waiting)
    assert driver(machine) == "580.105.08"
    assert "nvidia-driver-cuda_580.95.05-1_all.deb" in machine.run("ls", "/var/cache/apt/archives")
    assert machine.run("systemctl", "is-active", "muster-node").strip() == "active"

    asked = len(controller.api.requests)
    switched = controller.play(CONVERGE, machine, gpu_host_driver_version="580.95.05", gpu_host_allow_reboot=True)
    assert switched.rc == 0, switched.output
    assert driver(machine) == "580.95.05"
    assert machine.run("systemctl", "is-active", "muster-node", "nvidia-fabricmanager").split() == ["active", "active"]
    admissions = [path.rsplit("/", 1)[1] for _, path in controller.api.requests[asked:] if path.endswith(("/drain", "/resume"))]
    assert (admissions[0], admissions[-1]) == ("drain", "resume")


def test_a_version_that_is_not_there_is_named(controller: Controller, machine: Host) -> None:
    run = controller.play(PROVISION, machine, arguments=DRIVER_ONLY, gpu_host_driver_version="575.57.08")

    assert run.rc != 0
    assert "575.57.08" in said(run)
    assert driver(machine) == "580.95.05"


REFUSED = {
    "old": ([P40], {"gpu_host_driver": "nvidia"}, "Set gpu_host_driver_version to '580'"),
    "old-open": ([P40], {"gpu_host_driver_flavour": "open"}, "open kernel module does not support the cards"),
    "new": ([B200], {}, "has 550. Set gpu_host_driver to 'nvidia'"),
    "new-closed": ([B200], {"gpu_host_driver": "nvidia", "gpu_host_driver_flavour": "proprietary"}, "need the open one"),
    "switches": ([H100, NVSWITCH], {}, "Fabric Manager, and Debian does not have it. Set gpu_host_driver to 'nvidia'"),
    "secure": ([L4], {}, "mokutil --import /var/lib/dkms/mok.pub"),
    "none": ([AUDIO], {}, "No NVIDIA GPU is visible on the PCI bus"),
    "bare": ([L4], {"gpu_host_driver": "preinstalled"}, "gpu_host_driver is 'preinstalled', but nvidia-smi does not answer"),
    "forged": ([L4], {"gpu_host_driver": "nvidia"}, "Failed to update apt cache"),
}


@pytest.fixture(scope="module")
def refusals(lab: Lab, controller: Controller, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one run over hosts of every kind says about each."""
    hosts = {name: lab.boot(name, "trixie", route=False) for name in REFUSED}
    lab.wait()
    with driver_repository(tmp_path_factory.mktemp("other"), lab.gateway) as other:
        forged = {
            "gpu_host_driver_repository_url": controller.repository.url,
            "gpu_host_driver_repository_key": f"{other.url}/{KEY}",
        }
        for name, (devices, variables, _) in REFUSED.items():
            install_hardware(hosts[name], devices, secure_boot=name == "secure")
            controller.add(hosts[name], **variables, **(forged if name == "forged" else {}))
        hosts["forged"].run("find", "/etc/apt/sources.list.d", "-type", "f", "-delete")
        run = controller.play(PROVISION, *hosts.values(), arguments=DRIVER_ONLY)
    failures = re.findall(r"^fatal: \[(\S+)\].*?msg: (.*?)(?=^\S)", run.output, re.MULTILINE | re.DOTALL)
    found = {host: " ".join(text.split()).replace("''", "'") for host, text in failures}
    return {name: found.get(host.name, run.output) for name, host in hosts.items()}


@pytest.mark.parametrize("name", REFUSED)
def test_a_host_that_cannot_work_says_what_to_do(refusals: dict[str, str], name: str) -> None:
    assert REFUSED[name][2] in refusals[name]


@pytest.fixture(scope="module")
def planned(lab: Lab, controller: Controller) -> Run:
    """All that the role does with Debian's own driver, down to apt's plan; it would be hundreds of megabytes."""
    hosts = [lab.boot(f"own-{suite}", suite) for suite in ("bookworm", "trixie")]
    lab.wait()
    for host in hosts:
        install_hardware(controller.add(host), [L4])
        host.run("sh", "-c", "echo 'APT::Get::Simulate \"true\";' > /etc/apt/apt.conf.d/99simulate")
    return controller.play(PROVISION, *hosts, arguments=(*DRIVER_ONLY, "-v"))


@pytest.mark.parametrize("module", ["nvidia-kernel-dkms (535.", "nvidia-open-kernel-dkms (550."])
def test_debians_own_driver_resolves(planned: Run, module: str) -> None:
    assert f"Inst {module}" in planned.output, planned.output
    assert planned.output.count("Inst nvidia-smi (") == 2
    assert said(planned).count("msg: 'The driver is installed but does not answer") == 2
