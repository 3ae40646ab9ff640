"""For developers: ``python -m control_api.migrations check|revision STORE MESSAGE``, on a throw-away SQLite store."""

import sys
import tempfile
from pathlib import Path

import typer
from alembic import command
from alembic.util import CommandError

from control_api.migrations.runner import schemas
from control_api.settings import Settings

app = typer.Typer(no_args_is_help=True, help=__doc__)


@app.command()
def check() -> None:
    """Fail if the tables differ from the migrations."""
    with tempfile.TemporaryDirectory() as folder:
        for schema in schemas(Settings(state_dir=Path(folder), database_url=None)):
            schema.upgrade()
            try:
                command.check(schema.config())
            except CommandError as error:
                sys.exit(f"{schema.name}: {error}")


@app.command()
def revision(store: str, message: str) -> None:
    """Write the migration that brings a store to what the tables say."""
    with tempfile.TemporaryDirectory() as folder:
        for schema in schemas(Settings(state_dir=Path(folder), database_url=None)):
            if schema.name == store:
                schema.upgrade()
                command.revision(schema.config(), message=message, autogenerate=True)


if __name__ == "__main__":
    app()
