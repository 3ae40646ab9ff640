"""Builds a wheelhouse, or what is missing of it."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from packaging.utils import parse_wheel_filename

from control_api.errors import BadInput
from control_api.wheelhouse.builder import Builder, Report
from control_api.wheelhouse.manifest import Wheelhouse, present_bundles, read_manifest, sha256_of, write_manifest
from control_api.wheelhouse.product import NODE, PYTHONS, Product
from control_api.wheelhouse.target import ARCHITECTURES, check_targets, check_wheel
from control_api.wheelhouse.tools import COMMAND_TIMEOUT_S

FORMAT = 3  # of a bundle; part of the key, so that a change of the layout builds anew


def build_wheelhouse(
    directory: Path,
    *,
    project_dir: Path,
    pythons: Sequence[str] = PYTHONS[:3],
    arches: Sequence[str] = ARCHITECTURES[:1],
    accelerator: str = "cpu",
    engine_wheels: Sequence[Path] = (),
    product: Product = NODE,
    report: Report = lambda _: None,
) -> Wheelhouse:
    """Make the bundles that are missing and return the wheelhouse; without any missing it takes milliseconds.

    Parameters
    ----------
    directory: where the wheelhouse is; made if needed. Safe to call from several processes.
    project_dir: a checkout of Muster.
    pythons, arches: the targets, each Python on each architecture.
    accelerator: `cpu`; an engine for GPUs comes as an engine wheel.
    engine_wheels: wheels that replace those of the same name, e.g. an xllamacpp built for CUDA.
    product: what the wheelhouse is for; each has a directory of its own.
    report: called with one line for each step.

    Raises
    ------
    BadInput: a target, accelerator or engine wheel that cannot be used.
    Unavailable: a command failed, e.g. because the package index is not reachable.
    """
    check_targets(product, pythons, arches, accelerator)
    directory.mkdir(parents=True, exist_ok=True)
    targets = [(python, arch) for arch in arches for python in pythons]
    key = _key(product, project_dir, engine_wheels)
    with FileLock(directory / ".lock", timeout=COMMAND_TIMEOUT_S):
        present = present_bundles(directory, key)
        missing = [target for target in targets if target not in {(b.python, b.arch) for b in present}]
        if not missing:
            return read_manifest(directory)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".build-") as scratch:
            builder = Builder(product, Path(scratch), directory, project_dir, engine_wheels, report)
            own_wheel = builder.own_wheel()
            bundles = [*present, *(builder.bundle(own_wheel, *target) for target in missing)]
        wheelhouse = Wheelhouse(str(parse_wheel_filename(own_wheel.name)[1]), key, tuple(bundles))
        write_manifest(directory, wheelhouse)
        return wheelhouse


def _key(product: Product, project_dir: Path, engine_wheels: Sequence[Path]) -> str:
    """Hash everything that the content of bundles follows from."""
    inputs = product.inputs(project_dir)
    if absent := [path for path in (*inputs, *engine_wheels) if not path.is_file()]:
        raise BadInput(f"{absent[0]} does not exist", hint="the wheelhouse is built in a checkout of Muster")
    for wheel in engine_wheels:
        check_wheel(wheel)
    names = [str(path.relative_to(project_dir)) for path in inputs] + [wheel.name for wheel in engine_wheels]
    pairs = [[name, sha256_of(path)] for name, path in zip(names, (*inputs, *engine_wheels), strict=True)]
    return hashlib.sha256(json.dumps([FORMAT, pairs]).encode()).hexdigest()
