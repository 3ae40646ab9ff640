"""Wire schemas of cloud providers."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from annotated_types import Len
from pydantic import HttpUrl, StringConstraints

from control_api.kit.wire import Out, Wire

Secret = Annotated[str, StringConstraints(min_length=8, max_length=512, pattern=r"^[\x21-\x7e]+$")]
CloudModelStr = Annotated[str, StringConstraints(min_length=1, max_length=112, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$")]


class ProviderName(StrEnum):
    """Who can be asked; the name is the prefix of the models' ids."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GOOGLE = "google"


class ProviderPut(Wire):
    """``PUT /v0/providers/{name}``.

    ``models``: ids without the prefix that may be used; unset: all that the provider lists now.
    ``base_url``: its OpenAI-compatible endpoint, if not the usual one.
    """

    api_key: Secret
    models: Annotated[list[CloudModelStr], Len(1, 1000)] | None = None
    base_url: HttpUrl | None = None


class ProviderOut(Out):
    """A provider without its key; ``models`` are as clients name them."""

    name: ProviderName
    base_url: str
    models: list[str]
    updated_at: datetime
