"""``muster providers``: models that somebody else serves."""

import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from control_api.cli.connection import Json, Key, Url, call, fail
from control_api.cli.output import print_json, print_table, prompt_secret, say
from control_api.client.schemas import ProviderName, ProviderPut

app = typer.Typer(no_args_is_help=True, help="Cloud providers, whose models are openai:…, anthropic:… and google:….")

Name = Annotated[ProviderName, typer.Argument(help="openai, anthropic or google.")]


@app.command("list")
def list_providers(url: Url = "", key: Key = "", as_json: Json = False) -> None:
    """List providers that have a key, and their models. Keys are never shown."""
    found = call(url, key, lambda client: client.providers.list())
    if as_json:
        return print_json(found)
    rows = [(p.name, p.base_url, p.updated_at, len(p.models), p.models[0]) for p in found]
    empty = "No provider has a key. Give it one: muster providers set NAME"
    print_table(["NAME", "URL", "SINCE", "MODELS", "SUCH AS"], rows, empty=empty)


@app.command("set")
def set_provider(
    name: Name,
    model: Annotated[
        list[str] | None, typer.Option(help="Only these models, without the prefix; repeatable; default: all it lists.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Its OpenAI-compatible endpoint, if not the usual one.")] = None,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Give a provider a key, which is asked for, or read from standard input. Clients of the router never see it."""
    secret = prompt_secret(f"API key of {name}") if sys.stdin.isatty() else sys.stdin.readline().strip()
    try:
        wanted = ProviderPut(api_key=secret, models=model or None, base_url=base_url)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise fail(f"{first['loc'][0]}: {first['msg']}", code=2) from None
    made = call(url, key, lambda client: client.providers.put(name, wanted))
    print_json(made) if as_json else say(f"{name}: {len(made.models)} models, such as {made.models[0]}.")


@app.command("remove")
def remove(name: Name, url: Url = "", key: Key = "") -> None:
    """Forget a provider's key; its models are gone at once."""
    call(url, key, lambda client: client.providers.remove(name))
    say(f"Forgot the key of {name}.")
