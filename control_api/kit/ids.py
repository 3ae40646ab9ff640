"""Identifiers: UUIDv7 strings (RFC 9562), so that ids sort by time of creation."""

from datetime import datetime

import uuid_utils


def new_id() -> str:
    """Return a new UUIDv7 as a string of 36 characters."""
    return str(uuid_utils.uuid7())


def first_id_at(at: datetime) -> str:
    """Return the smallest id that can have been made at a time: ids made before it sort before it, all others after it."""
    milliseconds = f"{int(at.timestamp() * 1000):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-000000000000"
