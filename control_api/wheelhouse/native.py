"""The OpenMP runtime for hosts that have none.

llama.cpp's engines need ``libgomp.so.1``, which a minimal Debian does not install and a host without a route out cannot.
No package on PyPI is that library alone, but wheels built for manylinux carry it, made for the oldest glibc; it is taken
out of one that is locked with its hashes (``requirements/native.txt``) and packed as a wheel of our own, which the node
falls back to. libgomp is GPL-3.0 with the GCC Runtime Library Exception, which allows to pass it on.
"""

import base64
import hashlib
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from control_api.errors import Unavailable

PACKAGE = "muster_node_native"
LIBRARY = "libgomp.so.1"
CARRIER = "pykdtree"


def pack_native(wheels: Path, arch: str) -> Path:
    """Replace the carrier's wheel by one that holds only the library; return it.

    Parameters
    ----------
    wheels: the folder into which the carrier was downloaded.
    arch: the target's architecture.
    """
    carrier = next(wheels.glob(f"{CARRIER}-*.whl"))
    version = carrier.name.split("-")[1]
    with ZipFile(carrier) as archive:
        found = [name for name in archive.namelist() if Path(name).name.startswith("libgomp")]
        if not found:
            raise Unavailable(f"{carrier.name} does not carry libgomp any more", code="no_libgomp")
        library = archive.read(found[0])
    carrier.unlink()
    return _write_wheel(wheels, version, arch, library)


def _write_wheel(wheels: Path, version: str, arch: str, library: bytes) -> Path:
    """Write a wheel as the binary distribution format says; the same content gives the same bytes."""
    tag = f"py3-none-manylinux_2_17_{arch}"
    info = f"{PACKAGE}-{version}.dist-info"
    files = {
        f"{PACKAGE}/__init__.py": b'"""Libraries that the engines of muster-node need and the host may lack."""\n',
        f"{PACKAGE}/{LIBRARY}": library,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE.replace('_', '-')}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: muster\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    target = wheels / f"{PACKAGE}-{version}-{tag}.whl"
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(ZipInfo(name), content)
    return target


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
