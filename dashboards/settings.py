"""What a dashboard process is told at start."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DashboardSettings:
    """Settings of one dashboard process.

    Parameters
    ----------
    host, port: where to listen; port 0 takes a free one.
    api_url, router_url: the control API and the router, without ``/v0`` and ``/v1``.
    public_url: what browsers have in their address bar, when a reverse proxy changes it.
    secure_cookies: set the ``Secure`` flag; true behind TLS.
    trusted_proxies: networks of the reverse proxies that are believed about who a browser is.
    service_key: an API key of scope ``read`` for the one subscription that all sessions share.
    service_token_file: a file with such a key, where none is given.
        Without either each session asks for itself, with its user's own token.
    """

    host: str = "127.0.0.1"
    port: int = 8081
    api_url: str = "http://127.0.0.1:8080"
    router_url: str = "http://127.0.0.1:8000"
    public_url: str = ""
    secure_cookies: bool = False
    trusted_proxies: tuple[str, ...] = ()
    service_key: str | None = None
    service_token_file: Path | None = None

    def service_token(self) -> str | None:
        """Return the shared token, or None if there is none. Raises OSError if the file cannot be read."""
        if self.service_key:
            return self.service_key
        if self.service_token_file is None or not self.service_token_file.exists():
            return None
        return self.service_token_file.read_text(encoding="utf-8").strip() or None
