"""Kinds of values in the node's configuration."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

__all__ = ["HttpUrl", "Label"]


def _http_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", value):
        raise ValueError("must be an http:// or https:// address without query")
    return value.rstrip("/")


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must not contain control characters")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Label = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_printable)]
