"""``muster store``: to what this version needs, and back to what an older one needs."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from control_api.cli import app


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str | None]:
    """A state directory without a store."""
    return {"MUSTER_STATE_DIR": str(tmp_path), "MUSTER_DATABASE_URL": None}


def status(environment: dict[str, str | None]) -> Any:
    done = CliRunner().invoke(app, ["store", "status", "--json"], env=environment)
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_a_store_is_migrated_and_goes_back(environment: dict[str, str | None]) -> None:
    empty = status(environment)
    migrated = CliRunner().invoke(app, ["store", "migrate"], env=environment)
    current = status(environment)
    back = CliRunner().invoke(app, ["store", "migrate", "--to", "telemetry=03d3338a05e3"], env=environment)

    assert (empty["current"], empty["stores"]["control"]["revision"]) == (False, None)
    assert (migrated.exit_code, current["current"]) == (0, True)
    assert back.exit_code == 0, back.output
    assert status(environment)["stores"]["telemetry"]["revision"] == "03d3338a05e3"


def test_a_store_that_others_could_read_is_theirs_no_more(environment: dict[str, str | None], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    umask = os.umask(0)
    try:
        for name in ("control.db", "control.db-wal", "telemetry.db"):
            (tmp_path / name).touch(0o666)
        assert CliRunner().invoke(app, ["store", "migrate"], env=environment).exit_code == 0
    finally:
        os.umask(umask)
    assert {path.name: oct(path.stat().st_mode) for path in tmp_path.iterdir() if path.stat().st_mode & 0o077} == {}


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["migrate", "--to", "nonsense=1"], {}, "There is no store 'nonsense'"),
        (["migrate", "--to", "control=nonsense"], {}, "Can't locate revision"),
        (["migrate", "--router-role", "router"], {}, "is for PostgreSQL"),
        (["status"], {"MUSTER_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"}, "PostgreSQL refused"),
    ],
)
def test_what_cannot_be_done_is_said(
    environment: dict[str, str | None], arguments: list[str], variables: dict[str, str], said: str
) -> None:
    done = CliRunner().invoke(app, ["store", *arguments], env=environment | variables)

    assert done.exit_code in (1, 2)
    assert said in done.output
