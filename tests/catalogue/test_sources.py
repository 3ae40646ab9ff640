"""What callers may write as the source of a model, and which files make up one model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_api.catalogue.sources import Source, check_path, derived_id, only_choice, parse_source, parts_of, quantization_of
from control_api.errors import BadInput

HUB = "huggingface.co"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", Source("owner/name")),
        ("owner/name:file.gguf", Source("owner/name", "file.gguf")),
        ("owner/name:sub/file.gguf", Source("owner/name", "sub/file.gguf")),
        ("https://huggingface.co/owner/name", Source("owner/name")),
        ("https://huggingface.co/owner/name/tree/main", Source("owner/name", None, "main")),
        ("https://huggingface.co/owner/name/blob/v1/a.gguf", Source("owner/name", "a.gguf", "v1")),
        ("https://HuggingFace.co/owner/name/resolve/main/sub/a.gguf?download=true", Source("owner/name", "sub/a.gguf", "main")),
    ],
)
def test_repositories_files_and_urls_are_understood(text: str, expected: Source) -> None:
    assert parse_source(text, hub_host=HUB) == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("https://evil.example/owner/name", "hub_not_allowed"),
        ("https://huggingface.co.evil.example/owner/name", "hub_not_allowed"),
        ("https://huggingface.co@evil.example/owner/name", "hub_not_allowed"),
        ("https://huggingface.co:444/owner/name", "hub_not_allowed"),
        ("file://huggingface.co/owner/name", "hub_not_allowed"),
        ("http://169.254.169.254/latest/meta-data", "hub_not_allowed"),
        ("name", "bad_source"),
        ("a/b/c", "bad_source"),
        ("../name", "bad_source"),
        ("owner/..", "bad_source"),
        ("owner/na me", "bad_source"),
        ("https://huggingface.co/owner/name/raw/main/a.gguf", "bad_source"),
        ("https://huggingface.co/datasets", "bad_source"),
        ("owner/name:../../x.gguf", "bad_file_name"),
        ("owner/name:/etc/x.gguf", "bad_file_name"),
        ("owner/name:a/../x.gguf", "bad_file_name"),
        ("owner/name:a//x.gguf", "bad_file_name"),
        ("owner/name:x\0.gguf", "bad_file_name"),
        ("owner/name:.hidden.gguf", "bad_file_name"),
        ("owner/name:-flag.gguf", "bad_file_name"),
        ("owner/name:{{ 1+1 }}.gguf", "bad_file_name"),
        ("owner/name:" + "a" * 300 + ".gguf", "bad_file_name"),
        ("https://huggingface.co/owner/name/blob/main/%2e%2e/%2e%2e/x.gguf", "bad_file_name"),
        ("owner/name:x-00000-of-00003.gguf", None),
    ],
)
def test_anything_else_is_refused_by_name(text: str, code: str | None) -> None:
    with pytest.raises(BadInput) as raised:
        source = parse_source(text, hub_host=HUB)
        parts_of(source.path or "")

    assert raised.value.code == (code or "bad_file_name")


@given(st.text(max_size=80))
def test_no_text_makes_a_path_that_leaves_its_directory(text: str) -> None:
    try:
        check_path(text)
    except BadInput:
        return

    assert not text.startswith("/")
    assert not {"", ".", ".."} & set(text.split("/"))
    assert "\\" not in text
    assert "\0" not in text


def test_any_part_of_a_split_model_names_them_all() -> None:
    whole = ["d/m-00001-of-00003.gguf", "d/m-00002-of-00003.gguf", "d/m-00003-of-00003.gguf"]

    assert all(parts_of(part) == whole for part in whole)


def test_an_absurd_number_of_parts_is_refused() -> None:
    with pytest.raises(BadInput):
        parts_of("m-00001-of-99999.gguf")


def test_the_one_model_of_a_repository_is_found_beside_other_files() -> None:
    files = ["README.md", "m-00002-of-00002.gguf", "m-00001-of-00002.gguf", "mmproj-m.gguf", "config.json"]

    assert only_choice(files, repo="o/n") == "m-00001-of-00002.gguf"


def test_several_models_are_named_as_choices() -> None:
    with pytest.raises(BadInput) as raised:
        only_choice(["b.gguf", "a.gguf"], repo="o/n")

    assert raised.value.code == "file_needed"
    assert raised.value.details == {"files": ["a.gguf", "b.gguf"]}


def test_a_repository_without_gguf_says_so() -> None:
    with pytest.raises(BadInput) as raised:
        only_choice(["model.safetensors"], repo="o/n")

    assert raised.value.code == "no_gguf_file"


@pytest.mark.parametrize(
    ("path", "quantization", "model_id"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1", "thing:q4_1"),
        ("gpt-oss-120b-mxfp4-00001-of-00003.gguf", "MXFP4", "thing:mxfp4"),
        ("sub/Model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL", "thing:ud-q4_k_xl"),
        ("Model-IQ4_XS.gguf", "IQ4_XS", "thing:iq4_xs"),
        ("model.f16.gguf", "F16", "thing:f16"),
        ("tiny.gguf", "", "thing"),
    ],
)
def test_quantization_and_id_come_from_the_names(path: str, quantization: str, model_id: str) -> None:
    assert quantization_of(path) == quantization
    assert derived_id("owner/Thing-GGUF", path) == model_id
