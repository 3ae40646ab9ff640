"""Whom this machine trusts."""

import functools
import ssl

import httpx2


@functools.cache
def trusted() -> ssl.SSLContext:
    """Return a context with the certificates of this machine, read once: a client that reads them itself takes 20 ms for it."""
    return httpx2.create_ssl_context()
