"""A backup of the store: whole, or named as broken; and nothing that it brings back acts by itself."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import Session, SQLModel, select
from typer.testing import CliRunner, Result

from control_api.automation.models import Job
from control_api.automation.states import JobStatus
from control_api.cli import app
from control_api.distribution.models import Removal
from control_api.fleet.models import Host
from tests.router.test_repository import SecretBox, node_row

Muster = Callable[..., Result]


@pytest.fixture
def muster(postgres_url: str, tmp_path: Path) -> Muster:
    """The command line on a store on PostgreSQL that has its tables."""
    environment = {"MUSTER_DATABASE_URL": postgres_url, "MUSTER_STATE_DIR": str(tmp_path)}

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["store", *arguments], env=environment)

    assert run("migrate").exit_code == 0
    return run


@pytest.fixture
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    """The store itself."""
    made = sa.create_engine(postgres_url)
    yield made
    made.dispose()


def write(engine: sa.Engine, *rows: SQLModel) -> None:
    with Session(engine) as session:
        for row in rows:
            session.add(row)
            session.flush()
        session.commit()


def hosts(engine: sa.Engine) -> list[str]:
    with Session(engine) as session:
        return list(session.exec(select(Host.name).order_by(Host.name)))


def test_what_was_saved_comes_back(muster: Muster, engine: sa.Engine, tmp_path: Path) -> None:
    dump = tmp_path / "store.dump"
    write(engine, Host(name="old", address="192.0.2.1"))
    saved = muster("dump", str(dump))
    write(engine, Host(name="new", address="192.0.2.2"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE of_a_later_version (id int)"))

    loaded = muster("load", str(dump))

    assert (saved.exit_code, loaded.exit_code) == (0, 0), saved.output + loaded.output
    assert dump.stat().st_mode & 0o777 == 0o600
    assert hosts(engine) == ["old"]
    assert "of_a_later_version" not in sa.inspect(engine).get_table_names()
    status = json.loads(muster("status", "--json").output)
    assert (status["current"], status["holds"]) == (True, {"host": 1, "node": 0, "model": 0, "user": 0, "job": 0})


def test_nothing_that_comes_back_acts_by_itself(muster: Muster, engine: sa.Engine, tmp_path: Path) -> None:
    box = SecretBox(SecretBox.new_key(), name="routing")
    node = node_row(box, "http://192.0.2.1:8090")
    running = Job(playbook="drain.yml", status=JobStatus.RUNNING, requested_by="user:ada")
    ended = Job(playbook="site.yml", status=JobStatus.SUCCESSFUL, requested_by="user:ada")
    write(engine, node, Removal(node_id="node-1", sha256="a" * 64, revision=1), running, ended)
    assert muster("dump", str(tmp_path / "store.dump")).exit_code == 0

    assert muster("load", str(tmp_path / "store.dump")).exit_code == 0

    with Session(engine) as session:
        assert session.exec(select(Removal)).all() == []
        states = dict(session.exec(select(Job.playbook, Job.status)).all())
    assert states == {"drain.yml": JobStatus.LOST, "site.yml": JobStatus.SUCCESSFUL}


def test_a_dump_that_is_cut_short_changes_nothing(muster: Muster, engine: sa.Engine, tmp_path: Path) -> None:
    dump = tmp_path / "store.dump"
    write(engine, Host(name="old", address="192.0.2.1"))
    assert muster("dump", str(dump)).exit_code == 0
    dump.write_bytes(dump.read_bytes()[:-2000])
    write(engine, Host(name="new", address="192.0.2.2"))

    for arguments in (["load", str(dump), "--check"], ["load", str(dump)]):
        refused = muster(*arguments)
        assert refused.exit_code == 1
        assert "store.dump is no whole dump" in refused.output
    assert hosts(engine) == ["new", "old"]


def test_a_dump_of_a_newer_version_changes_nothing(muster: Muster, engine: sa.Engine, tmp_path: Path) -> None:
    dump = tmp_path / "store.dump"
    with engine.begin() as connection:
        known = connection.scalar(sa.text("SELECT version_num FROM alembic_version_control"))
        connection.execute(sa.text("UPDATE alembic_version_control SET version_num = 'ffffffffffff'"))
    refused = muster("dump", str(dump))
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE alembic_version_control SET version_num = '{known}'"))

    assert refused.exit_code == 1
    assert "the control store is at ffffffffffff" in refused.output
    assert not dump.exists()


def test_sqlite_is_copied_instead(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["store", "dump", str(tmp_path / "d")], env={"MUSTER_STATE_DIR": str(tmp_path)})

    assert done.exit_code == 1
    assert "copy the state directory" in done.output
