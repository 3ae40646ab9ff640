"""The wheelhouse, built from a small project with the real package index."""

import hashlib
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from control_api.errors import BadInput, Unavailable
from control_api.wheelhouse import CONTROL_PLANE, Wheelhouse, build_wheelhouse
from control_api.wheelhouse.target import locked
from tests.ansible.standin_project import make_project

# One requirement for old Pythons only, so that markers are seen to be those of the target and not of this Python.
LOCKED = """\
exceptiongroup==1.3.1 ; python_full_version < '3.12' \\
    --hash=sha256:a7a39a3bd276781e98394987d3a5701d0c4edffb633bb7a5144577f82c773598
    # via nothing
sniffio==1.3.1 \\
    --hash=sha256:2f6da418d1f1e0fddd844478f41680e794e6051915791a034ff65e5f100525a2 \\
    --hash=sha256:f4324edc670a0f49750a81b895f35c3adb843cca46f0530f79fc1babb23789dc
"""
CONTROL_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "muster"
version = "0.0.2"
[tool.hatch.build.targets.wheel]
packages = ["control_api", "dashboards"]
"""
OWN = ["muster_node", "muster_node_native"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"), LOCKED)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheelhouse")


@pytest.fixture(scope="module")
def built(project: Path, directory: Path) -> Wheelhouse:
    return build_wheelhouse(directory, project_dir=project, pythons=["3.11", "3.13"])


@pytest.fixture
def bundle(built: Wheelhouse, directory: Path) -> Iterator[tarfile.TarFile]:
    with tarfile.open(directory / built.bundles[0].file) as opened:
        yield opened


def content(archive: tarfile.TarFile, name: str) -> bytes:
    member: IO[bytes] | None = archive.extractfile(name)
    assert member
    return member.read()


def test_each_target_has_the_wheels_that_its_markers_ask_for(built: Wheelhouse) -> None:
    names = {bundle.python: sorted(wheel.split("-")[0] for wheel in bundle.wheels) for bundle in built.bundles}

    assert names == {"3.11": ["exceptiongroup", *OWN, "sniffio"], "3.13": [*OWN, "sniffio"]}
    assert built.version == "0.0.1"


def test_a_bundle_lists_the_hash_of_every_member_and_ends_with_the_list(bundle: tarfile.TarFile) -> None:
    *members, last = bundle.getnames()
    sums = dict(line.split("  ")[::-1] for line in content(bundle, "SHA256SUMS").decode().splitlines())

    assert last == "SHA256SUMS"
    assert sums == {name: hashlib.sha256(content(bundle, name)).hexdigest() for name in members}


def test_a_bundle_holds_uv_and_requirements_with_hashes(bundle: tarfile.TarFile) -> None:
    uv = bundle.getmember("bin/uv")
    requirements = content(bundle, "requirements.txt").decode().splitlines()

    assert uv.mode == 0o755
    assert content(bundle, "bin/uv").startswith(b"\x7fELF")
    assert [line.split("==")[0] for line in requirements] == ["exceptiongroup", "sniffio", "muster-node", "muster-node-native"]
    assert all("--hash=sha256:" in line for line in requirements)


def test_the_manifest_and_the_list_of_hashes_name_the_bundles(built: Wheelhouse, directory: Path) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    sums = dict(line.split("  ")[::-1] for line in (directory / "SHA256SUMS").read_text().splitlines())

    assert [(one["python"], one["arch"], one["file"]) for one in manifest["bundles"]] == [
        (bundle.python, bundle.arch, bundle.file) for bundle in built.bundles
    ]
    assert sums == {bundle.file: hashlib.sha256((directory / bundle.file).read_bytes()).hexdigest() for bundle in built.bundles}


def test_a_second_build_does_nothing(built: Wheelhouse, project: Path, directory: Path) -> None:
    steps: list[str] = []

    again = build_wheelhouse(directory, project_dir=project, pythons=["3.13"], report=steps.append)

    assert again == built
    assert steps == []


def test_only_what_is_missing_is_built(built: Wheelhouse, project: Path, directory: Path) -> None:
    lost = next(bundle for bundle in built.bundles if bundle.python == "3.13")
    (directory / lost.file).unlink()
    steps: list[str] = []

    again = build_wheelhouse(directory, project_dir=project, pythons=["3.11", "3.13"], report=steps.append)

    assert [step for step in steps if step.startswith("collecting")] == ["collecting wheels for Python 3.13 on x86_64"]
    # The same input gives the same bytes, and so the same release on the hosts.
    assert {bundle.sha256 for bundle in again.bundles} == {bundle.sha256 for bundle in built.bundles}


def test_a_change_of_the_node_service_builds_anew(built: Wheelhouse, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", LOCKED)
    (project / "node_service" / "muster_node.py").write_text("def main() -> None:\n    pass\n")

    changed = build_wheelhouse(tmp_path / "wheelhouse", project_dir=project, pythons=["3.13"])

    assert changed.key != built.key
    assert changed.bundles[0].sha256 not in {bundle.sha256 for bundle in built.bundles}


def test_an_engine_wheel_takes_the_place_of_the_public_one(project: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "sniffio-9.0-cp313-cp313-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("sniffio/__init__.py", "")

    made = build_wheelhouse(tmp_path / "out", project_dir=project, pythons=["3.11", "3.13"], engine_wheels=[wheel])

    wheels = {bundle.python: bundle.wheels for bundle in made.bundles}
    assert wheel.name in wheels["3.13"]
    assert "sniffio-1.3.1-py3-none-any.whl" not in wheels["3.13"]
    assert "sniffio-1.3.1-py3-none-any.whl" in wheels["3.11"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pythons": ["3.9"]}, "no muster-node runs on Python 3.9"),
        ({"arches": ["riscv64"]}, "no muster-node runs on riscv64"),
        ({"accelerator": "cuda12"}, "no public engine wheel for cuda12"),
        ({"engine_wheels": [Path("engine.zip")]}, "engine.zip does not exist"),
    ],
)
def test_what_cannot_be_built_is_said(project: Path, tmp_path: Path, options: dict[str, object], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        build_wheelhouse(tmp_path, project_dir=project, **options)  # type: ignore[arg-type]


def test_a_wrong_hash_stops_the_build_and_leaves_no_bundle(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", f"sniffio==1.3.1 \\\n    --hash=sha256:{'0' * 64}\n")

    with pytest.raises(Unavailable, match="downloading wheels"):
        build_wheelhouse(tmp_path / "out", project_dir=project, pythons=["3.13"])

    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_the_control_plane_brings_its_playbooks_and_nothing_of_the_site(tmp_path: Path) -> None:
    """The lock is cut down to what every wheelhouse needs, and the wheel to one module."""
    project = make_project(tmp_path / "project")
    texts = {
        "pyproject.toml": CONTROL_PYPROJECT,
        "README.md": "",
        "control_api/__init__.py": "",
        "dashboards/__init__.py": "",
        "playbooks/site.yml": "[]",
        "playbooks/__pycache__/left.pyc": "",
        "roles/one/tasks/main.yml": "[]",
        "plugins/action/one.py": "",
        "inventory/muster.yml": "",
        "inventory/plugins/muster.py": "",
        "inventory/my-site.yml": "a password",
        "ansible.cfg": "",
        "supported_models.json": "{}",
    }
    for name, text in texts.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    lock = project / "requirements" / "control.txt"
    kept = [block for name, block in locked(lock, "3.13", "x86_64") if name in ("h11", "uv")]
    lock.write_text("\n".join(kept).replace(" --hash", " \\\n    --hash") + "\n")

    made = build_wheelhouse(tmp_path / "out", project_dir=project, pythons=["3.13"], product=CONTROL_PLANE)

    assert made.version == "0.0.2"
    assert [wheel.split("-")[0] for wheel in made.bundles[0].wheels] == ["h11", "muster", "uv"]
    with tarfile.open(tmp_path / "out" / made.bundles[0].file) as opened:
        brought = {name.removeprefix("project/") for name in opened.getnames() if name.startswith("project/")}
        requirements = content(opened, "requirements.txt").decode()
    assert {"playbooks/site.yml", "inventory/muster.yml", "node_service/muster_node.py", "requirements/node.txt"} <= brought
    assert not brought & {"inventory/my-site.yml", "playbooks/__pycache__/left.pyc", "control_api/__init__.py"}
    assert requirements.count("uv==") == 1
