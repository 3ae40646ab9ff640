"""How commands reach the control API, and how they say that something went wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError

from control_api.cli.output import say
from control_api.client import ApiError, Client
from control_api.errors import MusterError, StartupError
from control_api.settings import LOCAL_KEY_FILE, Settings

Url = Annotated[
    str,
    typer.Option("--url", envvar="MUSTER_API_URL", help="Control API; default: the one of this machine.", show_default=False),
]
Key = Annotated[
    str,
    typer.Option(
        "--api-key",
        envvar="MUSTER_API_KEY",
        help="API key; default: the one that `muster up` left for its own user.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def fail(message: str, hint: str | None = None, *, code: int = 1) -> typer.Exit:
    """Print what went wrong and what to do; return the exit to raise."""
    say(f"error: {message}", error=True)
    if hint:
        say(f"hint: {hint}", error=True)
    return typer.Exit(code)


def asked[Shape: BaseModel](shape: type[Shape], **fields: Any) -> Shape:
    """Return what a command asks the API for, or end the command naming the first thing of it that cannot be."""
    try:
        return shape(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        given = f" {first['input'][:80]!r}" if first["loc"] and isinstance(first["input"], str) else ""
        what = ".".join(map(str, first["loc"])) + given
        raise fail(f"{what}: {first['msg']}" if what else first["msg"].removeprefix("Value error, "), code=2) from None


def load_settings() -> Settings:
    """Return the settings, or end the command naming the variable that is wrong."""
    try:
        return Settings()
    except StartupError as error:
        raise fail(error.message, error.hint, code=2) from error
    except ValidationError as error:
        first = error.errors()[0]
        name = "MUSTER_" + ".".join(map(str, first["loc"])).upper()
        raise fail(f"{name}: {first['msg']}", "See docs/reference/settings.md.", code=2) from error


def _local_key(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        hint = f"Set MUSTER_API_KEY, or run as the user of `muster up` ({path} is not readable)."
        raise fail("No API key was given.", hint, code=2) from None


def call[Answer](url: str, key: str, action: Callable[[Client], Awaitable[Answer]]) -> Answer:
    """Run an action with a connected client. An error of the API ends the command with its message and exit code 1."""
    settings = load_settings()

    async def run() -> Answer:
        async with Client(url or settings.public_api_url, key or _local_key(settings.state_dir / LOCAL_KEY_FILE)) as client:
            return await action(client)

    try:
        return asyncio.run(run())
    except (ApiError, MusterError) as error:
        raise fail(error.message, error.hint) from error
    except ValidationError as error:
        what = f"{error.title}: {error.errors(include_input=False)[0]['msg']}"
        raise fail(f"The control API answered what this version cannot read: {what}", "Use the same version.") from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
