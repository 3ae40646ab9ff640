"""What a pattern lets through: all of a text fits it, or none. In Python a ``$`` lets a newline follow."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from control_api.catalogue.schemas import RevisionStr, SourceStr
from control_api.catalogue.sources import check_path, parse_source
from control_api.errors import BadInput
from control_api.fleet.schemas import Address, HostKeyPut, HostName, JumpHost, PathStr, UserStr
from control_api.kit.wire import MODEL_ID, MODEL_ID_CHARS, IdStr, LineStr, ModelIdStr, NameStr, Sha256Str, TagStr
from node_service import wire as node_wire

ROOT = Path(__file__).parents[1]
PARTS = ("control_api", "dashboards", "inventory", "node_service", "plugins", "demo")


def patterns() -> Iterator[tuple[str, str]]:
    """Yield where a pattern of Python's own ``re`` is, and the pattern, of those that are to fit a text to its end."""
    for path in sorted(file for part in PARTS for file in (ROOT / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if not (isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "re"):
                continue
            lines = any(isinstance(part, ast.Attribute) and part.attr == "MULTILINE" for part in ast.walk(node))
            if called.attr in ("compile", "match", "search", "fullmatch") and not lines:
                texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                yield from ((f"{path.relative_to(ROOT)}:{node.lineno}", str(text)) for text in texts)


def test_no_pattern_of_python_ends_with_a_dollar() -> None:
    found = list(patterns())
    assert len(found) > 20
    assert [where for where, text in found if text.rstrip("'").endswith("$") and not text.endswith(r"\$")] == []


@pytest.mark.parametrize("end", ["\n", "\r", "\x00", "\u2028", "\n\n", "\nx"])
def test_no_type_of_a_wire_lets_a_line_follow(end: str) -> None:
    good = {
        NameStr: "a", TagStr: "a", IdStr: "a", ModelIdStr: "a", Sha256Str: "a" * 64, RevisionStr: "main", SourceStr: "a/b",
        HostName: "gpu-01", Address: "10.0.0.1", UserStr: "ops", PathStr: "/usr/bin/sudo", JumpHost: "ops@bastion",
    }  # fmt: skip
    for kind, text in good.items():
        TypeAdapter(kind).validate_python(text)
        if (kind, end) != (SourceStr, "\u2028"):
            with pytest.raises(ValidationError):
                TypeAdapter(kind).validate_python(text + end)
    for text in ("gpu-01.example.org", "fd00::1", "fe80::1%eth0", "::1%eth0;id", "a.b."):
        with pytest.raises(ValidationError):
            TypeAdapter(Address).validate_python(text + end)
    with pytest.raises(ValidationError):
        HostKeyPut(key=f"ssh-ed25519 AAAA{end}")
    if end != "\u2028":
        with pytest.raises(ValidationError):
            TypeAdapter(LineStr).validate_python(f"a{end}")


@pytest.mark.parametrize(
    "address", ["::1%eth0;id", "fe80::1%eth0", "2130706433", "0x7f.1", "010.0.0.1", "127.1", "1.2.3.4.", "a..b"]
)
def test_what_is_an_address_for_some_and_not_for_others_is_none(address: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Address).validate_python(address)


@pytest.mark.parametrize("text", ["owner/name\n", "owner/name:file.gguf\n", "owner\n/name"])
def test_a_repository_and_a_file_are_named_in_one_line(text: str) -> None:
    with pytest.raises(BadInput):
        parse_source(text, hub_host="hub")
    with pytest.raises(BadInput):
        check_path("a/file.gguf\n")


def test_a_node_takes_the_ids_that_the_control_plane_gives() -> None:
    assert (node_wire.MODEL_ID, node_wire.MODEL_ID_CHARS) == (MODEL_ID, MODEL_ID_CHARS)
