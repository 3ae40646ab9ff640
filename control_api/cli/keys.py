"""``muster keys``: API keys, and secrets for settings."""

from typing import Annotated

import typer

from control_api.cli.connection import Json, Key, Url, asked, call
from control_api.cli.output import print_json, print_table, say
from control_api.client.schemas import ApiKeyCreate, Scope

app = typer.Typer(no_args_is_help=True, help="API keys.")


@app.command("list")
def list_keys(url: Url = "", key: Key = "", as_json: Json = False) -> None:
    """List API keys, without their secrets."""
    found = call(url, key, lambda client: client.keys.list())
    if as_json:
        return print_json(found)
    print_table(
        ["ID", "NAME", "KEY", "SCOPES", "MODELS", "REQUESTS/MIN", "TOKENS/MIN", "EXPIRES"],
        [
            (
                *(k.id, k.name, f"{k.prefix}…", ",".join(k.scopes), ",".join(k.models or ["all"])),
                *(k.requests_per_minute or "any", k.tokens_per_minute or "any", k.expires_at or "never"),
            )
            for k in found
        ],
        empty="No API keys yet. Make one: muster keys create NAME",
    )


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who or what it is for.")],
    scope: Annotated[list[Scope] | None, typer.Option(help="Repeatable; default: inference.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only these models; repeatable; default: all.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Limit of requests; default: none.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Limit of tokens, asked and answered.")] = None,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Make an API key. It is shown once."""
    wanted = asked(
        ApiKeyCreate,
        name=name,
        scopes=scope or [Scope.INFERENCE],
        models=model or None,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    made = call(url, key, lambda client: client.keys.create(wanted))
    print_json(made) if as_json else say(made.key)


@app.command("delete")
def delete(key_id: Annotated[str, typer.Argument(help="Key id.")], url: Url = "", key: Key = "") -> None:
    """Delete an API key; it is refused within a second."""
    call(url, key, lambda client: client.keys.delete(key_id))
    say(f"Deleted {key_id}.")


@app.command("secret")
def secret(
    api_key: Annotated[bool, typer.Option(help="In the form of an API key, for MUSTER_BOOTSTRAP_API_KEY.")] = False,
) -> None:
    """Print a new random secret for MUSTER_ROUTING_KEY or MUSTER_CREDENTIALS_KEY."""
    from control_api.kit.secretbox import SecretBox, new_token

    say(new_token("mk") if api_key else SecretBox.new_key())
