"""``muster settings``: what may be changed while everything runs."""

import json
from typing import Annotated, Any

import typer

from control_api.cli.connection import Json, Key, Url, call, fail
from control_api.cli.output import print_json, print_table
from control_api.client import Client
from control_api.client.schemas import PreferenceOut

app = typer.Typer(no_args_is_help=True, help="Settings that take effect at once, such as the policy that places models.")


@app.command("list")
def list_settings(url: Url = "", key: Key = "", as_json: Json = False) -> None:
    """List settings, their defaults, and who changed them last."""
    _print(call(url, key, lambda client: client.settings.list()), as_json=as_json)


@app.command("set")
def change(
    values: Annotated[list[str], typer.Argument(help="NAME=VALUE, e.g. auto_distribution=best-fit; NAME= for the default.")],
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Change settings at once, in all processes."""
    wanted = dict(_parsed(value) for value in values)

    async def action(client: Client) -> list[PreferenceOut]:
        await client.settings.change(wanted)
        return await client.settings.list()

    _print(call(url, key, action), as_json=as_json)


@app.command("log")
def log(url: Url = "", key: Key = "", as_json: Json = False) -> None:
    """List who changed which setting to what, newest first."""
    found = call(url, key, lambda client: client.settings.changes())
    if as_json:
        return print_json(found)
    rows = [(c.changed_at, c.changed_by, c.name, "the default" if c.value is None else c.value) for c in found]
    print_table(["AT", "BY", "SETTING", "CHANGED TO"], rows, empty="Nobody has changed a setting.")


def _parsed(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise fail(f"{text!r} is not NAME=VALUE.", "See `muster settings list`.", code=2)
    if not value:
        return name, None
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _print(found: list[PreferenceOut], *, as_json: bool) -> None:
    if as_json:
        return print_json(found)
    rows = [(s.name, s.value, s.default, s.changed_by or "") for s in found]
    print_table(["SETTING", "VALUE", "DEFAULT", "CHANGED BY"], rows, empty="There is none.")
