"""``muster store``: the tables of the control plane, for whoever upgrades it and saves them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from control_api.cli.connection import Json, fail, load_settings
from control_api.cli.output import print_json, print_table
from control_api.errors import MusterError
from control_api.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The tables of the control plane, for upgrades and backups.")


@app.command("status")
def status(as_json: Json = False) -> None:
    """Show the revisions of the tables, and those that this version needs."""
    from control_api import backup
    from control_api.migrations import runner

    settings = load_settings()
    _check_keys(settings)
    found = _guarded(settings, lambda: [(s.name, s.current(), s.head()) for s in runner.schemas(settings)])
    if as_json:
        stores = {name: {"revision": revision, "needs": needs} for name, revision, needs in found}
        current = all(revision == needs for _, revision, needs in found)
        print_json({"stores": stores, "current": current, "holds": _guarded(settings, lambda: backup.holds(settings))})
        return
    print_table(["STORE", "REVISION", "NEEDS"], [(name, rev or "empty", needs) for name, rev, needs in found], empty="")


@app.command("migrate")
def migrate(
    to: Annotated[
        list[str] | None,
        typer.Option(help="STORE=REVISION to go back to, as `status` showed it, before an older version starts; repeatable."),
    ] = None,
    router_role: Annotated[
        str, typer.Option(help="Role of PostgreSQL that routers connect as: it may read routes and add history, nothing else.")
    ] = "",
) -> None:
    """Bring the tables to what this version needs. Stop the other processes first."""
    from control_api.migrations import runner

    settings = load_settings()
    _guarded(settings, lambda: _go_back(settings, to) if to else asyncio.run(runner.upgrade(settings)))
    _check_keys(settings)
    if router_role:
        from control_api.router.grants import grant_router

        if not settings.database_url:
            raise fail("--router-role is for PostgreSQL; on SQLite there are no roles.", code=2)
        _guarded(settings, lambda: grant_router(settings.control_url, router_role))


@app.command("dump")
def dump(file: Annotated[Path, typer.Argument(help="Where to write it; replaced if it exists.")]) -> None:
    """Write a consistent dump of the store on PostgreSQL, while everything runs. Keys are not in it."""
    from control_api import backup

    settings = load_settings()
    _check_keys(settings)
    _guarded(settings, lambda: backup.dump(settings, file))


@app.command("load")
def load(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A dump of `muster store dump`.")],
    check: Annotated[bool, typer.Option("--check", help="Only say whether it can be loaded.")] = False,
) -> None:
    """Replace the store on PostgreSQL by a dump and migrate it. Stop all processes first."""
    from control_api import backup

    settings = load_settings()
    _guarded(settings, lambda: backup.check(settings, file) if check else backup.load(settings, file))
    if not check:
        _check_keys(settings)


def _check_keys(settings: Settings) -> None:
    """End the command if it was given keys of another store: what it did or saved would be of no use with them."""
    from control_api import firststart
    from control_api.migrations import runner

    _guarded(settings, lambda: runner.is_current(settings) and asyncio.run(firststart.check_given(settings)))


def _go_back(settings: Settings, targets: list[str]) -> None:
    from control_api.migrations import runner

    wanted = dict(target.partition("=")[::2] for target in targets)
    schemas = {schema.name: schema for schema in runner.schemas(settings)}
    if unknown := [name for name in wanted if name not in schemas]:
        raise fail(f"There is no store {unknown[0]!r}.", f"STORE is one of {', '.join(schemas)}.", code=2)
    for name, revision in wanted.items():
        schemas[name].downgrade(revision)  # type: ignore[index]


def _guarded[Answer](settings: Settings, action: Callable[[], Answer]) -> Answer:
    import sqlalchemy as sa
    from alembic.util import CommandError

    try:
        return action()
    except MusterError as error:
        raise fail(error.message, error.hint) from error
    except CommandError as error:
        raise fail(f"{error}.", "See `muster store status`.") from error
    except sa.exc.DBAPIError as error:
        where = "PostgreSQL" if settings.database_url else f"SQLite in {settings.state_dir}"
        raise fail(f"{where} refused: {' '.join(str(error.orig).split())}") from error
