"""What the command line prints of foreign text cannot act on a terminal."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from control_api import cli
from control_api.cli.output import print_table
from control_api.kit.text import visible
from tests.cli import hostile_api
from tests.dashboards.servers import Running, serving
from tests.processes import PROJECT

# Whatever is neither a line feed, a tab, nor something with a picture.
ACTS = re.compile(r"[^\n\t -~\xa0-\uffff\U00010000-\U0003ffff]|[\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
# They serve, work on this machine's files, or wait for a whole run of a job that ends in no way here.
NO_API = {("up",), ("doctor",), ("serve",), ("hub",), ("store",), ("wheelhouse",), ("keys", "secret")}
WITH_LINES = {
    ("jobs", "run"),
    ("jobs", "watch"),
    ("plan",),
    ("apply",),
    *(("drift", what) for what in ("show", "check", "apply")),
}
VALUES = {
    "nodes": "a:gpu=24GiB",
    "values": "policy=1",
    "source": "smollm2:135m",
    "file": str(PROJECT / "inventory/example.yml"),
}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every command below a group."""
    for name, child in sorted(getattr(command, "commands", {}).items()):
        here = (*path, name)
        if here not in NO_API and (name,) not in NO_API:
            yield from leaves(child, here) if hasattr(child, "commands") else [here]


ROOT: Any = typer.main.get_command(cli.app)
COMMANDS = list(leaves(ROOT))


def parameters(path: tuple[str, ...]) -> list[Any]:
    """Return the parameters of a command."""
    command = ROOT
    for name in path:
        command = command.commands[name]
    return list(command.params)


def arguments(path: tuple[str, ...]) -> list[str]:
    """Return a command with all that it must have, and what keeps it from asking."""
    given = list(path)
    for parameter in parameters(path):
        value = "openai" if path[0] == "providers" else VALUES.get(parameter.name, "thing")
        if parameter.param_type_name == "argument":
            given.append(value)
        elif parameter.name in ("yes", "watch_it", "watch", "wait"):
            given.append(parameter.opts[0])
        elif parameter.required:
            given += [parameter.opts[0], value]
    return given


# `models verify` finds no node that has the model.
WITH_JSON = [path for path in COMMANDS if "as_json" in {p.name for p in parameters(path)} and path != ("models", "verify")]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Any]]:
    app = hostile_api.create(tmp_path_factory.mktemp("state"))
    with serving(lambda: app) as running:
        yield running, app


def muster(api: tuple[Running, Any], *given: str) -> str:
    """Run a command in this process; return all that it printed."""
    environment = {"MUSTER_API_URL": api[0].url, "MUSTER_API_KEY": "mk_x", "COLUMNS": "80"}
    result = CliRunner().invoke(cli.app, list(given), env=environment, input="secret-of-a-provider\n")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.mark.parametrize("refuse", [False, True], ids=["answered", "refused"])
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_command_passes_on_what_acts_on_a_terminal(api: tuple[Running, Any], path: tuple[str, ...], refuse: bool) -> None:
    api[1].state.refuse = refuse
    said = muster(api, *arguments(path))

    assert "Usage:" not in said, said
    assert "cannot read" not in said, said
    assert ACTS.findall(said) == [], said
    # A line of its own would be taken for one of ours; only output of jobs and differences have lines.
    if path not in WITH_LINES:
        assert "\nerror: faked" not in said


@pytest.mark.parametrize("path", WITH_JSON, ids=" ".join)
def test_json_says_what_was_sent_in_plain_ascii(api: tuple[Running, Any], path: tuple[str, ...]) -> None:
    api[1].state.refuse = False
    said = muster(api, *[argument for argument in arguments(path) if not argument.startswith("--wa")], "--json")
    document = said[said.index("[" if said.lstrip()[0] == "[" else "{") :]

    assert document.isascii()
    assert "\x7f" not in document
    assert hostile_api.HOSTILE in texts(json.JSONDecoder().raw_decode(document)[0])


def texts(document: Any) -> set[str]:
    """Return every text that is in a document."""
    if isinstance(document, dict):
        return texts(list(document.keys())) | texts(list(document.values()))
    return (
        {text for part in document for text in texts(part)}
        if isinstance(document, list)
        else {document}
        if isinstance(document, str)
        else set()
    )


@given(st.text(st.characters(), max_size=50))
def test_any_text_becomes_one_line_without_anything_that_acts(text: str) -> None:
    shown = visible(text)
    assert ACTS.findall(shown) == []
    assert "\n" not in shown
    assert "\t" not in shown
    shown.encode()


@pytest.mark.parametrize("text", ["gpu-01", "日本語　の\xa0ノード", "Übergröße", "한국어", "ไทย", "👍🏽 ❤️", r"C:\x1b"])
def test_text_of_people_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_wide_characters_keep_the_columns_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["NAME", "STATE"], [("ノード", "online"), ("a\x1b[2Jb", "offline")], empty="")
    wide, shown = (line for line in capsys.readouterr().out.splitlines() if "line" in line)
    assert wide.index("online") + len("ノード") == shown.index("offline")


def test_only_the_output_module_writes_to_the_terminal() -> None:
    """Whoever prints from elsewhere passes foreign text on as it is."""
    for path in sorted(Path(cli.__file__).parent.glob("*.py")):
        if path.name == "output.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert not re.fullmatch(
                r"print|(typer|click)\.(echo|secho|style|confirm|prompt)|sys\.std(out|err)\.write|Console", called
            ), f"{path.name}:{getattr(node, 'lineno', 0)} prints by itself"


ODD_NAMES = {
    "space": "gpt oss",
    "control": "a\x07\x1b[2Jb",
    "parent": "..",
    "no text": "\udcff",
    "nothing": "",
    "long": "x" * 5000,
}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_name_that_cannot_be_is_no_accident(api: tuple[Running, Any], path: tuple[str, ...], name: str) -> None:
    """Whoever wrote it is told so, by the command or by the API; nothing ends in a traceback."""
    api[1].state.refuse = True
    said = muster(api, *[name if given == "thing" else given for given in arguments(path)])

    assert "answered what this version cannot read" not in said, said
    assert ACTS.findall(said) == [], said


def test_a_name_that_cannot_be_is_said_with_what_is_wrong_with_it(api: tuple[Running, Any]) -> None:
    assert "error: model 'gpt\\x07oss': String should match" in muster(api, "models", "push", "gpt\x07oss")
    assert "error: playbook 'site\\x1b.yml': String should match" in muster(api, "jobs", "run", "site\x1b.yml", "gpu-01")
    assert "error: A name is empty." in muster(api, "hosts", "delete", "--yes", "")
