"""Collects the wheels of one target and packs them."""

import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import ZipFile

from packaging.utils import parse_wheel_filename

from control_api.errors import BadInput
from control_api.wheelhouse.manifest import Bundle, sha256_of
from control_api.wheelhouse.native import CARRIER, pack_native
from control_api.wheelhouse.product import Product
from control_api.wheelhouse.target import locked, platforms, wheel_tags
from control_api.wheelhouse.tools import find_uv, pip_download, run_tool

Report = Callable[[str], None]


class Builder:
    """Makes bundles in a scratch directory on the wheelhouse's file system."""

    def __init__(
        self,
        product: Product,
        scratch: Path,
        directory: Path,
        project_dir: Path,
        engine_wheels: Sequence[Path],
        report: Report,
    ) -> None:
        self._product = product
        self._scratch = scratch
        self._directory = directory
        self._project_dir = project_dir
        self._engine_wheels = engine_wheels
        self._report = report
        self._uv = find_uv()

    def own_wheel(self) -> Path:
        """Build the wheel of the product itself."""
        name = self._product.name
        self._report(f"building the {name} wheel")
        out_dir = self._scratch / "own"
        source = str(self._project_dir / self._product.source)
        locked_tools = ["--require-hashes", "--build-constraints", str(self._project_dir / "requirements" / "build.txt")]
        run_tool(
            [self._uv, "build", "--quiet", "--wheel", *locked_tools, "--out-dir", str(out_dir), source], f"building {name}"
        )
        return next(out_dir.glob("*.whl"))

    def bundle(self, own_wheel: Path, python: str, arch: str) -> Bundle:
        """Download what one target needs and pack it."""
        self._report(f"collecting wheels for Python {python} on {arch}")
        content = self._scratch / f"{python}-{arch}"
        wheels = content / "wheels"
        wheels.mkdir(parents=True)
        own = [own_wheel, *self._fitting_engine_wheels(python, arch)]
        replaced = {parse_wheel_filename(wheel.name)[0] for wheel in own}
        locks = self._project_dir / "requirements"
        needed = {n: block for n, block in locked(locks / self._product.lock, python, arch) if n not in replaced}
        tools = {"uv": _locked_one(locks / "control.txt", "uv", python, arch)}
        if self._product.has_engine:
            tools[CARRIER] = _locked_one(locks / "native.txt", CARRIER, python, arch)
        self._download([*(tools | needed).values()], wheels, python, arch)
        _extract_uv(wheels, content / "bin" / "uv", keep_wheel="uv" in needed)
        for wheel in own:
            shutil.copy(wheel, wheels)
        if self._product.has_engine:
            own.append(pack_native(wheels, arch))
        self._copy_project(content / "project")
        requirements = [*needed.values(), *(_requirement(wheel) for wheel in own)]
        (content / "requirements.txt").write_text("\n".join(requirements) + "\n")
        return self._pack(content, python, arch)

    def _copy_project(self, target: Path) -> None:
        for file in self._product.project_files(self._project_dir):
            copy = target / file.relative_to(self._project_dir)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)

    def _fitting_engine_wheels(self, python: str, arch: str) -> list[Path]:
        tags = set(wheel_tags(python, arch))
        return [wheel for wheel in self._engine_wheels if tags & parse_wheel_filename(wheel.name)[3]]

    def _download(self, requirements: Sequence[str], wheels: Path, python: str, arch: str) -> None:
        """Let pip choose the files for the target and check their hashes."""
        listing = wheels.parent / "download.txt"
        listing.write_text("\n".join(requirements) + "\n")
        wanted = [argument for platform in platforms(arch) for argument in ("--platform", platform)]
        target = ["--implementation", "cp", "--python-version", python, *wanted]
        files = ["--require-hashes", "--requirement", str(listing), "--dest", str(wheels)]
        run_tool([*pip_download(), *target, *files], f"downloading wheels for Python {python} on {arch}")
        listing.unlink()

    def _pack(self, content: Path, python: str, arch: str) -> Bundle:
        """Make the archive; the same content gives the same bytes, hence the same release on the hosts."""
        members = sorted(path.relative_to(content) for path in content.rglob("*") if path.is_file())
        sums = "".join(f"{sha256_of(content / member)}  {member}\n" for member in members)
        (content / "SHA256SUMS").write_text(sums)
        archive = self._scratch / f"{python}-{arch}.tar"
        with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
            for member in [*members, Path("SHA256SUMS")]:
                tar.add(content / member, arcname=str(member), filter=_anonymous)
        digest = sha256_of(archive)
        name = f"{self._product.name}-cp{python.replace('.', '')}-{arch}-{digest[:12]}.tar"
        size_bytes = archive.stat().st_size
        archive.replace(self._directory / name)
        self._report(f"packed {name} ({size_bytes / 1e6:.0f} MB)")
        wheels = tuple(member.name for member in members if member.suffix == ".whl")
        return Bundle(python, arch, name, digest, size_bytes, wheels)


def _locked_one(lock: Path, name: str, python: str, arch: str) -> str:
    try:
        return dict(locked(lock, python, arch))[name]
    except KeyError as error:
        raise BadInput(f"{lock} does not lock {name}, which a wheelhouse needs") from error


def _requirement(wheel: Path) -> str:
    name, version, _, _ = parse_wheel_filename(wheel.name)
    return f"{name}=={version} --hash=sha256:{sha256_of(wheel)}"


def _extract_uv(wheels: Path, target: Path, *, keep_wheel: bool) -> None:
    """Take the binary out of uv's wheel; a host that does not use it later does not install the wheel."""
    wheel = next(wheels.glob("uv-*.whl"))
    target.parent.mkdir()
    with ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
        target.write_bytes(archive.read(member))
    target.chmod(0o755)
    if not keep_wheel:
        wheel.unlink()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    return member
