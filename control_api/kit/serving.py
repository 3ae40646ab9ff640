"""How our processes serve an ASGI application: with bounds, without a log of each request."""

import json
from collections.abc import Sequence

import uvicorn

from control_api.kit.bounds import Fault
from control_api.kit.connection import BoundedHttp
from control_api.kit.ids import new_id
from control_api.kit.sockets import BoundedSocket

SHUTDOWN_S = 10
# Longer than nodes are silent between two heartbeats, and than usual clients keep a connection for another request.
KEEP_ALIVE_S = 75
LARGEST_MESSAGE_BYTES = 1 << 16


class Http(BoundedHttp):
    """A connection whose refusals have the shape of all our errors."""

    @staticmethod
    def error_body(fault: Fault) -> bytes:
        """Return the body of a refusal."""
        error = {"code": fault.code, "message": fault.message, "hint": None, "request_id": new_id(), "details": None}
        return json.dumps({"error": error}).encode()


def uvicorn_config(
    app: object,
    host: str,
    port: int,
    trusted_proxies: Sequence[str] = (),
    *,
    http: type[BoundedHttp] = Http,
    largest_message_bytes: int = LARGEST_MESSAGE_BYTES,
    deflate: bool = False,
) -> uvicorn.Config:
    """Return how we serve an ASGI app.

    Parameters
    ----------
    trusted_proxies: networks; who connects from elsewhere is not believed about for whom.
    largest_message_bytes: of a WebSocket.
    deflate: compress a WebSocket's messages, where the client is somebody who logged in with a browser.
    """
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=host,
        port=port,
        http=http,
        ws=BoundedSocket,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        ws_max_size=largest_message_bytes,
        ws_per_message_deflate=deflate,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
    )
