"""Targets: for which Python and architecture wheels are collected, and what a lock file means there."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from control_api.errors import BadInput
from control_api.wheelhouse.product import PYTHONS, Product

ARCHITECTURES = ("x86_64", "aarch64")
NEWEST_GLIBC = 34  # RHEL 9; Debian 12 and Ubuntu 22.04 have newer ones


def check_targets(product: Product, pythons: Sequence[str], arches: Sequence[str], accelerator: str) -> None:
    """Raise BadInput for a target or accelerator that there is nothing for."""
    if unknown := [python for python in pythons if python not in product.pythons]:
        raise BadInput(f"no {product.name} runs on Python {', '.join(unknown)}; supported: {', '.join(product.pythons)}")
    if unknown := [arch for arch in arches if arch not in ARCHITECTURES]:
        raise BadInput(f"no {product.name} runs on {', '.join(unknown)}; supported: {', '.join(ARCHITECTURES)}")
    if accelerator != "cpu":
        raise BadInput(f"there is no public engine wheel for {accelerator}", hint="give one with --engine-wheel")


def check_wheel(wheel: Path) -> None:
    """Raise BadInput unless the file is a wheel that fits a target."""
    try:
        fits = parse_wheel_filename(wheel.name)[3]
    except ValueError as error:
        raise BadInput(f"{wheel.name} is not a wheel: {error}") from error
    if not any(fits & set(wheel_tags(python, arch)) for python in PYTHONS for arch in ARCHITECTURES):
        raise BadInput(f"{wheel.name} fits no Python and architecture that nodes run on")


def platforms(arch: str) -> list[str]:
    """Return the platform tags of Linux with glibc, newest first."""
    legacy = {"x86_64": ["manylinux2014", "manylinux2010", "manylinux1"], "aarch64": ["manylinux2014"]}[arch]
    tags = [f"manylinux_2_{minor}" for minor in range(NEWEST_GLIBC, 4, -1)] + legacy
    return [f"{tag}_{arch}" for tag in tags] + [f"linux_{arch}"]


def wheel_tags(python: str, arch: str) -> Iterator[Tag]:
    """Yield the tags of wheels that the target can install."""
    version = tuple(int(part) for part in python.split("."))
    yield from cpython_tags(version, platforms=platforms(arch))
    yield from compatible_tags(version, platforms=platforms(arch))


def locked(lock: Path, python: str, arch: str) -> Iterator[tuple[str, str]]:
    """Yield name and lines (with hashes) of each requirement of a lock file that the target needs."""
    environment = {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": arch,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }
    lines = [line.rstrip() for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    for block in "\n".join(lines).replace("\\\n", "\\").splitlines():
        head, *hashes = (part.strip() for part in block.split("\\"))
        if not head:
            continue
        requirement = Requirement(head)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            pinned = f"{requirement.name}{requirement.specifier}"
            yield canonicalize_name(requirement.name), " ".join([pinned, *hashes])
