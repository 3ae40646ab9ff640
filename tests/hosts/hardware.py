"""NVIDIA cards for a host that has none: what a kernel would show of them, again after each reboot.

The fake is at the edge between kernel and user land: trees under ``/sys``, ``modprobe`` and ``update-initramfs``.
"""

import io
import tarfile
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.lab import Host

FILES = Path(__file__).with_name("hardware")
PLACES = {
    "boot": "opt/hardware/boot",
    "modprobe": "usr/sbin/modprobe",
    "update-initramfs": "usr/sbin/update-initramfs",
    "hardware.service": "etc/systemd/system/hardware.service",
}


@dataclass(frozen=True)
class Device:
    """A PCI device of NVIDIA: class and device id as the kernel writes them."""

    device: str
    kind: str = "0x030200"


L4 = Device("0x27b8")
H100 = Device("0x2330")
B200 = Device("0x2901")
P40 = Device("0x1b38")
NVSWITCH = Device("0x22a3", "0x068000")
AUDIO = Device("0x22ba", "0x040300")


def install_hardware(host: Host, devices: Sequence[Device], *, nouveau: bool = False, secure_boot: bool = False) -> None:
    """Give the host these devices, now and after each reboot; `nouveau` has the kernel load it unless it is forbidden."""
    lines = [f"0000:{slot:02x}:00.0 0x10de {one.kind} {one.device}\n" for slot, one in enumerate(devices, start=1)]
    contents = {"opt/hardware/cards": "".join(lines)}
    contents |= {
        name: "" for name, wanted in (("opt/hardware/nouveau", nouveau), ("opt/hardware/secure_boot", secure_boot)) if wanted
    }
    contents |= {place: (FILES / name).read_text() for name, place in PLACES.items()}
    host.run("sh", "-c", f"echo {_archive(contents)} | base64 -d | tar -xz -C / --no-same-owner")
    host.run("sh", "-c", "mkdir -p /boot && touch -d 2000-01-01 /boot/initrd.img-$(uname -r) && systemctl enable -q hardware")
    host.run("systemctl", "start", "hardware")


def _archive(contents: dict[str, str]) -> str:
    """Return the files as a tar archive in base64."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, text in contents.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
    return b64encode(target.getvalue()).decode()
