"""Sites: hosts and nodes that are near one another share a tag ``site:…``."""

from collections.abc import Iterable

from control_api.fleet.models import Host


def site_of(tags: Iterable[str]) -> str | None:
    """Return the site that the tags name, the first if there are several."""
    return min((tag for tag in tags if tag.startswith("site:")), default=None)


def addresses_at_sites(hosts: Iterable[Host], of: Iterable[Host]) -> dict[str, list[str]]:
    """Return for each site of the hosts ``of`` the addresses of those of ``hosts`` that are there."""
    addresses: dict[str, list[str]] = {site: [] for host in of if (site := site_of(host.tags))}
    for host in hosts:
        if (site := site_of(host.tags)) in addresses:
            addresses[site].append(host.address)
    return addresses
