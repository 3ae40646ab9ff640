"""A package repository as NVIDIA's, signed, with packages that install a driver for the cards of `tests.hosts.hardware`."""

import gzip
import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

VERSIONS = ("580.95.05", "580.105.08", "590.44.01")
KEY = "8793F200.pub"

# Answers as the real one does: without a module, with a module of another version, with the right one.
SMI = """#!/bin/sh
loaded=$(cat /sys/module/nvidia/version 2> /dev/null) || {
    echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    exit 9
}
[ "$loaded" = VERSION ] || {
    echo "Failed to initialize NVML: Driver/library version mismatch"
    exit 18
}
echo "0, NVIDIA H100 80GB HBM3, 81559 MiB, VERSION"
"""
UNIT = """[Service]
ExecStartPre=/bin/grep -qx VERSION /sys/module/nvidia/version
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Package:
    """One package: its fields, and its files by path."""

    name: str
    version: str
    depends: str = ""
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Repository:
    """A repository that is served."""

    url: str
    key: str


def _packages(version: str) -> list[Package]:
    module = (("usr/lib/nvidia/version", f"{version}\n"),)
    same = f"{version}-1"
    units = {name: ((f"lib/systemd/system/{name}.service", UNIT),) for name in ("nvidia-persistenced", "nvidia-fabricmanager")}
    return [
        Package("nvidia-kernel-open-dkms", same, f"nvidia-driver-cuda (= {same})", module),
        Package("nvidia-kernel-dkms", same, f"nvidia-driver-cuda (= {same})", module),
        Package("nvidia-driver-cuda", same, f"libcuda1 (= {same})", (("usr/bin/nvidia-smi", SMI),)),
        Package("libcuda1", same),
        *(Package(name, same, files=files) for name, files in units.items()),
    ]


def _build(package: Package, version: str, folder: Path) -> Path:
    tree = folder / f"{package.name}_{package.version}"
    control = tree / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    depends = f"Depends: {package.depends}\n" if package.depends else ""
    control.write_text(
        f"Package: {package.name}\nVersion: {package.version}\nArchitecture: all\nMaintainer: test <test@example.org>\n"
        f"Description: fake\n{depends}"
    )
    for name, text in package.files:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("VERSION", version))
        path.chmod(0o755)
    target = folder / "repository" / f"{tree.name}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, target], check=True, capture_output=True)
    return target


def _index(packages: list[Path]) -> str:
    entries = []
    for path in packages:
        control = subprocess.run(["dpkg-deb", "--field", path], check=True, capture_output=True, text=True).stdout
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entries.append(f"{control}Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n")
    return "\n".join(entries)


def _sign(folder: Path, home: Path) -> None:
    """Sign the index with a new key, and put the key beside it."""
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    index = gzip.compress((folder / "Packages").read_bytes(), mtime=0)
    (folder / "Packages.gz").write_bytes(index)
    sums = [
        f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}"
        for name, content in (("Packages", (folder / "Packages").read_bytes()), ("Packages.gz", index))
    ]
    release = "\n".join(["Origin: NVIDIA", "Label: fake", "Date: Fri, 20 Nov 2020 08:00:00 UTC", "SHA256:", *sums, ""])
    subprocess.run(
        [*gpg, "--quick-generate-key", "fake <fake@example.org>", "rsa3072", "sign"], check=True, capture_output=True
    )
    signed = subprocess.run([*gpg, "--clearsign"], input=release.encode(), check=True, capture_output=True).stdout
    (folder / "InRelease").write_bytes(signed)
    key = subprocess.run([*gpg, "--armor", "--export"], check=True, capture_output=True).stdout
    (folder / KEY).write_bytes(key)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


class _Served(SimpleHTTPRequestHandler):
    """Serves files, whether it is asked as a server or as a proxy for whatever host."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(urlsplit(path).path)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def driver_repository(folder: Path, address: str) -> Iterator[Repository]:
    """Build the repository in `folder` and serve it at `address`."""
    root = folder / "repository"
    root.mkdir(parents=True)
    packages = [_build(package, version, folder) for version in VERSIONS for package in _packages(version)]
    more = (
        Package("nvidia-modprobe", "999.1"),
        Package("nvidia-container-toolkit", "1.18.1-1"),
        Package("linux-headers-amd64", "999"),
    )
    packages += [_build(package, package.version, folder) for package in more]
    (root / "Packages").write_text(_index(packages))
    _sign(root, folder / "gnupg")
    server = ThreadingHTTPServer((address, 0), partial(_Served, directory=str(root)))
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Repository(f"http://{address}:{server.server_port}", (root / KEY).read_text())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
