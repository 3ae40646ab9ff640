"""What wheelhouses are made for: the node service, and the control plane itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13", "3.14")


@dataclass(frozen=True)
class Product:
    """A distribution that hosts install. All paths are relative to the project.

    Parameters
    ----------
    name: of the distribution, and of what runs in words.
    source: folder with its `pyproject.toml`.
    packages: what its wheel is made from.
    lock: what it needs, with versions and hashes.
    pythons: versions that it runs on.
    project: what it reads beside its wheel at run time; goes into the bundle as `project/`.
    has_engine: it brings an inference engine, which needs the OpenMP runtime.
    """

    name: str
    source: str
    packages: tuple[str, ...]
    lock: str
    pythons: tuple[str, ...]
    project: tuple[str, ...] = ()
    has_engine: bool = False

    def inputs(self, project_dir: Path) -> list[Path]:
        """Return every file that the content of its bundles follows from; a file that is missing is among them."""
        locks = [f"requirements/{name}" for name in dict.fromkeys((self.lock, "control.txt", "native.txt", "build.txt"))]
        found = [path for name in dict.fromkeys((*self.packages, *self.project)) for path in _files(project_dir / name)]
        return [*found, *(project_dir / name for name in locks)]

    def project_files(self, project_dir: Path) -> Iterator[Path]:
        """Yield the files that go into the bundle as `project/`."""
        for name in self.project:
            yield from _files(project_dir / name)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [file for file in sorted(path.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]


NODE = Product(
    name="muster-node",
    source="node_service",
    packages=("node_service",),
    lock="node.txt",
    pythons=PYTHONS,
    has_engine=True,
)
# Of the inventory only what is ours: a checkout may hold the site's own, with its secrets.
CONTROL_PLANE = Product(
    name="muster",
    source=".",
    packages=("control_api", "dashboards", "pyproject.toml", "README.md"),
    lock="control.txt",
    pythons=PYTHONS[1:],
    project=(
        "playbooks", "roles", "plugins", "inventory/muster.yml", "inventory/plugins", "ansible.cfg", "supported_models.json",
        "node_service", "requirements",
    ),
)  # fmt: skip
