"""Typed HTTP client of the control API: used by the CLI, the dashboard, notebooks and tests.

async with Client("http://127.0.0.1:8080", api_key) as client:
    for node in await client.nodes.list():
        print(node.name, node.state)
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Self

import httpx2

from control_api.client import live
from control_api.client.access import Auth, Keys
from control_api.client.alerts import Alerts
from control_api.client.checks import Drift, Plans
from control_api.client.errors import ApiError, ApiUnreachable, NotSignedIn
from control_api.client.fleet import Credentials, Hosts, Nodes
from control_api.client.http import Http, TokenProvider
from control_api.client.jobs import Jobs
from control_api.client.live import LiveEvent
from control_api.client.models import Models, Tasks
from control_api.client.providers import Providers
from control_api.client.settings import Settings

__all__ = ["ApiError", "ApiUnreachable", "Client", "LiveEvent", "NotSignedIn", "TokenProvider"]


class Client:
    """The control API as Python objects. Every call raises ApiError (or a subclass) when it does not succeed.

    Parameters
    ----------
    base_url: where the API is, e.g. ``http://127.0.0.1:8080``.
    token: API key or access token; an async function when it changes, asked before each call.
    timeout_s: for connecting, and for each wait for bytes.
    transport: what carries the requests instead of the network.
    """

    def __init__(
        self,
        base_url: str,
        token: str | TokenProvider | None = None,
        *,
        timeout_s: float = 10.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = Http(base_url, token, timeout_s, transport)
        self.hosts = Hosts(self._http)
        self.credentials = Credentials(self._http)
        self.nodes = Nodes(self._http)
        self.models = Models(self._http)
        self.tasks = Tasks(self._http)
        self.jobs = Jobs(self._http)
        self.drift = Drift(self._http)
        self.plans = Plans(self._http)
        self.alerts = Alerts(self._http)
        self.auth = Auth(self._http)
        self.keys = Keys(self._http)
        self.providers = Providers(self._http)
        self.settings = Settings(self._http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def events(self, topics: Iterable[str], *, after: Mapping[str, int] | None = None) -> AsyncGenerator[LiveEvent]:
        """Yield live events of ``topics`` (nodes, tasks, jobs, job:<id>, models, alerts) for ever, reconnecting.

        A ``reset`` says: read the list again. ``after``: for ``job:<id>`` topics the last event id already seen.
        Close the iterator (``contextlib.aclosing``) when done.
        """
        return live.follow(self._http, topics, after)

    async def healthy(self) -> bool:
        """Return whether the API answers ``/healthz``."""
        try:
            await self._http.send("GET", "/healthz")
        except ApiError:
            return False
        return True
