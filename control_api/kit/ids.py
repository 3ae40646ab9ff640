"""Identifiers: UUIDv7 strings (RFC 9562), so that ids sort by time of creation."""

import uuid_utils


def new_id() -> str:
    """Return a new UUIDv7 as a string of 36 characters."""
    return str(uuid_utils.uuid7())
