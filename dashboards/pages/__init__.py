"""The pages, in the order of the navigation. The first one is where everybody starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dashboards.components.status import N_
from dashboards.pages.base import Page
from dashboards.pages.hosts import Hosts
from dashboards.pages.jobs import Jobs
from dashboards.pages.keys import Keys
from dashboards.pages.models import Models
from dashboards.pages.nodes import Nodes
from dashboards.pages.overview import Overview
from dashboards.pages.playground import Playground
from dashboards.pages.settings import RunTimeSettings


@dataclass(frozen=True)
class Entry:
    """A page in the navigation. ``title`` is translated where it is shown; ``admin``: only administrators are led there."""

    title: str
    page: type[Page]
    admin: bool = False


PAGES: Mapping[str, Entry] = MappingProxyType(
    {
        "overview": Entry(N_("Overview"), Overview),
        "hosts": Entry(N_("Hosts"), Hosts),
        "nodes": Entry(N_("Nodes"), Nodes),
        "models": Entry(N_("Models"), Models),
        "jobs": Entry(N_("Jobs"), Jobs),
        "playground": Entry(N_("Playground"), Playground),
        "keys": Entry(N_("API keys"), Keys, admin=True),
        "settings": Entry(N_("Settings"), RunTimeSettings, admin=True),
    }
)
