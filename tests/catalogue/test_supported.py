"""``supported_models.json`` is what its schema says, and what the rest of the product relies on."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import control_api.catalogue
from control_api.catalogue.sources import check_path, parts_of
from control_api.catalogue.supported import SupportedModels
from control_api.errors import StartupError
from control_api.settings import Settings

FILE = Settings().project_dir / "supported_models.json"
SCHEMA = Path(control_api.catalogue.__file__).parent / "supported_models.schema.json"


def entries() -> list[dict[str, Any]]:
    return json.loads(FILE.read_text())


def test_file_is_valid_by_its_schema() -> None:
    jsonschema.validate(entries(), json.loads(SCHEMA.read_text()))


def test_the_fixed_list_is_the_four_of_the_specification_and_dev_models_are_not_in_it() -> None:
    supported = SupportedModels.load(FILE)

    assert supported.official_ids == {"gpt-oss:20b", "gpt-oss:120b", "gpt-oss-safeguard:20b", "qwen3-coder:30b"}
    assert supported.get("smollm2:135m") is not None


@pytest.mark.parametrize("entry", entries(), ids=lambda e: e["id"])
def test_file_names_are_plain_and_split_models_name_all_their_parts(entry: dict[str, Any]) -> None:
    parts = parts_of(entry["recommended_filename"])
    for part in parts:
        check_path(part)

    assert entry.get("artifacts", [entry["recommended_filename"]]) == parts


@pytest.mark.parametrize("entry", entries(), ids=lambda e: e["id"])
def test_required_memory_is_computed_from_the_header(entry: dict[str, Any]) -> None:
    need = SupportedModels.load(FILE).memory(entry["id"])

    assert entry["required_memory_bytes"] == need.total_bytes
    assert (need.weights_bytes, need.basis) == (entry["size_bytes"], "header")
    assert need.context == min(8192, entry["context_length"])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("not json", "cannot be used"),
        ('[{"id": "a:b"}]', "name"),
        (json.dumps(entries()[:1] * 2), "twice"),
        (json.dumps([entries()[0] | {"header": {"general.architecture": "gpt-oss"}}]), "block_count"),
    ],
)
def test_a_broken_file_stops_the_start_and_is_named(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "supported_models.json"
    path.write_text(content)

    with pytest.raises(StartupError) as raised:
        SupportedModels.load(path)

    assert str(path) in raised.value.message
    assert named in raised.value.message


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError):
        SupportedModels.load(tmp_path / "absent.json")
