"""``muster alerts``: what somebody must act on now."""

from typing import Annotated

import typer

from control_api.cli.connection import Json, Key, Url, call
from control_api.cli.output import print_json, say_lines
from control_api.client.schemas import AlertOut, Severity
from control_api.kit.text import visible

SOMETHING_IS_WRONG = 2


def alerts(
    severity: Annotated[Severity | None, typer.Option(help="Only these.", show_default="all")] = None,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Show what somebody must act on now, the worst first, with what to do. Exits with 2 if there is anything."""
    found = call(url, key, lambda client: client.alerts.list(severity))
    if as_json:
        print_json(found)
    else:
        say_lines("\n\n".join(map(_text, found)) or "Nothing is wrong.")
    if found:
        raise typer.Exit(SOMETHING_IS_WRONG)


def _text(alert: AlertOut) -> str:
    since = f"{alert.since:%Y-%m-%d %H:%M:%S} UTC"
    return f"{alert.severity} {visible(alert.kind)} since {since}\n  {visible(alert.message)}\n  To do: {visible(alert.hint)}"
