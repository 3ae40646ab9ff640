"""Whose word a host goes by. What an operator adds is proposed: no job, ticket or secret reaches it until an admin says so."""

from collections.abc import Collection, Iterable

from control_api.access.principal import Principal
from control_api.access.schemas import Scope
from control_api.errors import BadInput, Conflict, Forbidden
from control_api.fleet.models import Host
from control_api.fleet.schemas import HostAccept

LOCAL = "local"
# What decides on which machine, as whom and through which program something is run, and so who gets to see the secrets.
CONNECTION = frozenset(HostAccept.model_fields)
# What draws models, files of the site and secrets to a host.
ATTACHED = frozenset({"tags", "credential_id"})


def check_may_change(fields: Iterable[str], by: Principal, host: Host | None = None) -> None:
    """Raise ``Forbidden`` naming the fields that only admins may set: some always, the connection once something hangs on it.

    Parameters
    ----------
    host: None: it is being added.
    """
    if Scope.ADMIN in by.scopes:
        return
    settled = host is not None and bool(host.accepted_at or host.credential_id)
    if refused := sorted(set(fields) & (ATTACHED | CONNECTION if settled else ATTACHED)):
        raise Forbidden(
            f"Only an admin may set {', '.join(refused)}{f' of {host.name!r}' if host else ''}.",
            code="admin_only_field",
            hint="Ask an admin, or leave it out: tags and credentials, and the connection of an accepted host, are theirs.",
            details=[{"field": field, "message": "is an admin's to set"} for field in refused],
        )


def check_own_host(fields: Iterable[str], host: Host) -> None:
    """Raise ``BadInput`` naming what would change how the machine that runs the jobs reaches itself.

    A program, a user or an address of its own host is run on it, by whoever holds the keys of all hosts.
    """
    if host.connection == LOCAL and (refused := sorted(set(fields) & CONNECTION)):
        raise BadInput(
            f"{', '.join(refused)} of {host.name!r}, the machine that runs the jobs, cannot be set through the API.",
            code="local_connection",
            hint=f"Put it into host_vars/{host.name}.yml of MUSTER_SITE_DIR, as ansible_… variables.",
            details=[{"field": field, "message": "is not to be set through the API"} for field in refused],
        )


def check_as_seen(host: Host, seen: HostAccept) -> None:
    """Raise ``Conflict`` if the host is not what the admin saw: an operator may have changed it in the meantime."""
    shown = seen.model_dump(exclude_unset=True)
    if differing := sorted(name for name, value in shown.items() if getattr(host, name) != value):
        raise Conflict(
            f"{host.name!r} is no longer as it was shown: {', '.join(differing)} changed.",
            code="host_changed",
            hint="Look at it again.",
            details=[{"field": field, "message": f"is {getattr(host, field)!r} now"} for field in differing],
        )


def check_accepted(hosts: Collection[Host]) -> None:
    """Raise ``Conflict`` naming those of the hosts that are only proposed."""
    if proposed := [host.name for host in hosts if not host.accepted_at]:
        named = ", ".join(proposed[:5]) + (" …" if len(proposed) > 5 else "")
        raise Conflict(
            f"Not accepted by an admin yet: {named}.",
            code="host_proposed",
            hint=f"An admin accepts a host: muster hosts accept {proposed[0]}",
            details=[{"host": name} for name in proposed],
        )
