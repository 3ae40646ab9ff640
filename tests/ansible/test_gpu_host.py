"""What the role gpu_host would choose on systems that there are no hosts of here: packages, repositories, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.fake_api import FakeApi
from tests.ansible.runs import ROOT, Ansible

BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
NVIDIA = "https://developer.download.nvidia.com/compute/cuda/repos"
H100, P40 = "0x2330", "0x1b38"


def system(distribution: str, version: str, **variables: Any) -> dict[str, Any]:
    """Return a host: its facts, what the probe has seen, and its options."""
    facts = {"distribution": distribution, "distribution_version": version, "distribution_major_version": version.split(".")[0]}
    facts |= {"architecture": "x86_64", "kernel": variables.pop("kernel", "6.8.0-1")}
    seen = [f"gpu 0000:01:00.0 {variables.pop('card', H100)}", *variables.pop("seen", ["boot another"])]
    installed = "\n".join(variables.pop("installed", []))
    return {
        "facts": facts,
        "ansible_connection": "local",
        "__gpu_host_probe": {"stdout_lines": seen},
        "__gpu_host_smi": {"rc": 9},
        "__gpu_host_installed": {"stdout_lines": installed.splitlines()},
        "__gpu_host_ubuntu_branch": {"stdout": "580"},
        **variables,
    }


SYSTEMS = {
    "rocky": system("Rocky", "9.6", gpu_host_driver="nvidia"),
    "rocky-pinned": system("Rocky", "9.6", gpu_host_driver="nvidia", gpu_host_driver_version="580.105.08"),
    "rhel10-old": system("RedHat", "10.1", gpu_host_driver="nvidia", card=P40, gpu_host_driver_version="580"),
    "noble": system("Ubuntu", "24.04", kernel="6.8.0-1024-aws"),
    "noble-nvidia": system("Ubuntu", "24.04", gpu_host_driver="nvidia", gpu_host_driver_version="580"),
    "trixie-cloud": system("Debian", "13", kernel="6.12.117+deb13-cloud-amd64"),
    "bookworm": system("Debian", "12"),
    "far": system("Debian", "13", ansible_connection="ssh"),
    "bookworm-held": system(
        "Debian", "12", installed=["installed libcuda1 1:535.309.01-0+deb12u1", "installed nvidia-smi 535.309.01-0"]
    ),
    "itself": system("Debian", "13", gpu_host_allow_reboot=True, ansible_connection="ssh", seen=[f"boot {BOOT_ID}"]),
    "container": system(
        "Debian", "13", gpu_host_allow_reboot=True, ansible_connection="ssh", seen=[f"boot {BOOT_ID}", "container"]
    ),
    "local": system("Debian", "13", gpu_host_allow_reboot=True),
}
WANTED = {
    name: f"_gpu_host_{name}"
    for name in (
        "wanted", "more", "repository_url", "repository_key", "stream", "fabric_package", "held_version", "reboot_refusal",
    )
} | {"more": "_gpu_host_more_packages[_gpu_host_family]"}  # fmt: skip


FACTS = ("distribution", "distribution_version", "distribution_major_version", "architecture", "kernel")


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the variables of the role are on each system. Nothing is run there."""
    folder = tmp_path_factory.mktemp("systems")
    defaults = yaml.safe_load((ROOT / "roles/gpu_host/defaults/main.yml").read_text())
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": SYSTEMS, "vars": defaults}}))
    chosen = "{" + ", ".join(f"'{name}': {expression}" for name, expression in WANTED.items()) + "}"
    tasks = [
        {"ansible.builtin.set_fact": {name: f"{{{{ facts.{name} }}}}" for name in FACTS} | {"cacheable": True}},
        {"ansible.builtin.include_vars": {"dir": str(ROOT / "roles/gpu_host/vars/main")}},
        {"ansible.builtin.set_fact": {"chosen": f"{{{{ {chosen} }}}}"}},
        {
            "ansible.builtin.copy": {
                "content": "{{ chosen | to_json }}",
                "dest": f"{folder}/{{{{ inventory_hostname }}}}.json",
            },
            "delegate_to": "localhost",
        },
    ]
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    with FakeApi() as api:
        run = Ansible(api, folder).run("ansible-playbook", "-i", str(folder / "hosts.yml"), str(folder / "play.yml"))
    assert run.rc == 0, run.output
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in SYSTEMS}


@pytest.mark.parametrize(
    ("name", "wanted", "source"),
    [
        ("rocky", ["kmod-nvidia-open-dkms", "nvidia-persistenced", "nvidia-driver-cuda"], f"{NVIDIA}/rhel9/x86_64"),
        (
            "rocky-pinned",
            [f"{name}-580.105.08*" for name in ("kmod-nvidia-open-dkms", "nvidia-persistenced", "nvidia-driver-cuda")],
            f"{NVIDIA}/rhel9/x86_64",
        ),
        (
            "rhel10-old",
            ["kmod-nvidia-latest-dkms-580.*", "nvidia-persistenced-580.*", "nvidia-driver-cuda-580.*"],
            f"{NVIDIA}/rhel10/x86_64",
        ),
        ("noble-nvidia", ["nvidia-open=580.*"], f"{NVIDIA}/ubuntu2404/x86_64"),
        ("trixie-cloud", ["nvidia-open-kernel-dkms", "libcuda1", "nvidia-smi"], "http://deb.debian.org/debian"),
        ("bookworm", ["nvidia-kernel-dkms", "libcuda1", "nvidia-smi"], "http://deb.debian.org/debian"),
    ],
)
def test_packages_and_their_source(choices: dict[str, Any], name: str, wanted: list[str], source: str) -> None:
    assert (choices[name]["wanted"], choices[name]["repository_url"]) == (wanted, source)


def test_ubuntus_own_modules_are_those_of_its_kernel(choices: dict[str, Any]) -> None:
    assert choices["noble"]["wanted"] == [
        "linux-modules-nvidia-580-server-open-aws",
        "nvidia-headless-no-dkms-580-server-open",
        "nvidia-utils-580-server",
    ]


def test_streams_of_release_9_follow_branch_and_flavour(choices: dict[str, Any]) -> None:
    streams = [choices[name]["stream"] for name in ("rocky", "rocky-pinned", "rhel10-old")]

    assert streams == ["open-dkms", "580-open", "580-dkms"]


def test_the_manager_of_nvswitches_has_the_name_of_its_time_and_place(choices: dict[str, Any]) -> None:
    names = [choices[name]["fabric_package"] for name in ("rocky-pinned", "noble-nvidia", "noble")]

    assert names == ["nvidia-fabricmanager", "nvidia-fabricmanager", "nvidia-fabricmanager-580"]


def test_headers_are_those_of_the_kernel(choices: dict[str, Any]) -> None:
    assert "linux-headers-cloud-amd64" in choices["trixie-cloud"]["more"]
    assert "linux-headers-amd64" in choices["bookworm"]["more"]


def test_what_is_installed_is_held_without_epoch_and_revision(choices: dict[str, Any]) -> None:
    assert choices["bookworm-held"]["held_version"] == "535.309.01"


def test_the_machine_that_runs_the_play_is_never_rebooted(choices: dict[str, Any]) -> None:
    refusals = {name: choices[name]["reboot_refusal"] for name in ("itself", "container", "local", "far")}

    assert refusals == {
        "itself": "this is the machine that runs the play",
        "container": "",
        "local": "this is the machine that runs the play",
        "far": "gpu_host_allow_reboot is false",
    }
