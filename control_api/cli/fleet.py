"""``muster hosts`` and ``muster nodes``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml

from control_api.cli.connection import Json, Key, Url, asked, call, fail
from control_api.cli.output import confirm, print_json, print_table, prompt_secret, say
from control_api.client import Client
from control_api.client.schemas import Acceptance, HostCreate, HostOut, NodeOut

hosts = typer.Typer(no_args_is_help=True, help="Machines that Ansible reaches over SSH.")
nodes = typer.Typer(no_args_is_help=True, help="Node services, as they report themselves from the hosts.")

Name = Annotated[str, typer.Argument(help="Name or id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@hosts.command("list")
def list_hosts(url: Url = "", key: Key = "", as_json: Json = False) -> None:
    """List hosts."""
    found = call(url, key, lambda client: client.hosts.list())
    if as_json:
        return print_json(found)
    print_table(
        ["NAME", "ADDRESS", "STATE", "TAGS", "NODE"],
        [(h.name, f"{h.address}:{h.port}", _state(h), ",".join(h.tags), "yes" if h.node_id else "no") for h in found],
        empty="No hosts yet. Add one: muster hosts add NAME ADDRESS",
    )


def _state(host: HostOut) -> str:
    return host.acceptance if host.acceptance is Acceptance.PROPOSED else host.state


@hosts.command("accept")
def accept_hosts(
    names: Annotated[list[str], typer.Argument(help="Names or ids.")],
    yes: Yes = False,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Accept hosts that operators added: from then on jobs, tickets and secrets reach them. For admins."""

    async def look(client: Client) -> list[HostOut]:
        return [await client.hosts.get(name) for name in names]

    async def accept(client: Client) -> list[HostOut]:
        return [await client.hosts.accept(host) for host in shown]

    shown = call(url, key, look)
    if not yes:
        for host in shown:
            say(f"{host.name}: {_reached(host)}")
        confirm("Are these machines yours?")
    accepted = call(url, key, accept)
    print_json(accepted) if as_json else say(f"Accepted {', '.join(host.name for host in accepted)}.")


def _reached(host: HostOut) -> str:
    """Say where secrets will go, and through which programs."""
    parts = [f"{host.user}@{host.address}:{host.port}" if host.user else f"{host.address}:{host.port}"]
    parts += [f"through {host.jump_host}"] if host.jump_host else []
    parts += [f"with sudo {host.become_exe}"] if host.become and host.become_exe else []
    parts += [f"with Python {host.python}"] if host.python else []
    return ", ".join([*parts, f"host key {host.host_key.fingerprint}" if host.host_key else "host key not known yet"])


@hosts.command("add")
def add_host(
    name: Annotated[str, typer.Argument(help="What you call it.")],
    address: Annotated[str, typer.Argument(help="IP address or host name.")],
    port: Annotated[int, typer.Option(help="SSH port.")] = 22,
    user: Annotated[str | None, typer.Option(help="SSH user.")] = None,
    become: Annotated[bool, typer.Option("--become/--no-become", help="Use sudo on the host.")] = True,
    credential: Annotated[str | None, typer.Option(help="Name or id of a stored SSH key.")] = None,
    jump_host: Annotated[str | None, typer.Option(help="[user@]host[:port] to go through.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag, e.g. site:tokyo; repeatable.")] = None,
    var: Annotated[list[str] | None, typer.Option(help="Role option NAME=VALUE (YAML); repeatable.")] = None,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Add a host. Unless an admin adds it, it waits for one to accept it."""
    fields = {"name": name, "address": address, "port": port, "user": user, "become": become, "jump_host": jump_host}

    async def action(client: Client) -> HostOut:
        wanted = asked(HostCreate, **fields, tags=tag or [], variables=variables(var or []))
        if credential:
            known = {c.name: c.id for c in await client.credentials.list()}
            wanted = wanted.model_copy(update={"credential_id": known.get(credential, credential)})
        return await client.hosts.create(wanted)

    host = call(url, key, action)
    if as_json:
        return print_json(host)
    waits = host.acceptance is Acceptance.PROPOSED
    say(f"Added {host.name}. Next: {_accept([host]) if waits else f'muster jobs run site.yml {host.name} --watch'}")


def _accept(proposed: list[HostOut]) -> str:
    return f"an admin accepts it: muster hosts accept {' '.join(host.name for host in proposed)}"


def variables(pairs: list[str]) -> dict[str, Any]:
    """Return ``NAME=VALUE`` pairs with their values read as YAML. Ends the command for anything else."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise fail(f"{pair!r} is not NAME=VALUE.", code=2)
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise fail(f"The value of {name} is not YAML: {' '.join(str(error).split())}", code=2) from error
    return found


@hosts.command("import")
def import_hosts(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Static Ansible inventory, YAML or INI.")],
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Add the hosts of a static Ansible inventory: all of them, or none and the reasons."""
    kind: Literal["yaml", "ini"] = "yaml" if file.suffix in (".yml", ".yaml") else "ini"
    found = call(url, key, lambda client: client.hosts.import_static(file.read_text(), kind))
    if as_json:
        return print_json(found)
    say(f"Added {len(found)} hosts: {', '.join(host.name for host in found)}")
    if proposed := [host for host in found if host.acceptance is Acceptance.PROPOSED]:
        say(f"Next: {_accept(proposed)}")


@hosts.command("delete")
def delete_host(name: Name, yes: Yes = False, url: Url = "", key: Key = "") -> None:
    """Forget a host and its node; nothing on the machine is changed."""
    yes or confirm(f"Forget host {name} and its node?")
    call(url, key, lambda client: client.hosts.delete(name))
    say(f"Forgot {name}.")


@hosts.command("rekey")
def rekey(name: Name, url: Url = "", key: Key = "") -> None:
    """Accept the SSH host key that the next contact presents: after a host was reinstalled."""
    call(url, key, lambda client: client.hosts.put_host_key(name, None))
    say(f"The next contact with {name} pins its key.")


@hosts.command("credential")
def add_credential(
    name: Annotated[str, typer.Argument(help="What you call it.")],
    key_file: Annotated[
        Path | None, typer.Option("--ssh-key", exists=True, dir_okay=False, help="Private key without passphrase.")
    ] = None,
    ask_become: Annotated[bool, typer.Option("--ask-become-password", help="Ask for the sudo password.")] = False,
    url: Url = "",
    key: Key = "",
) -> None:
    """Store an SSH key and, if sudo asks for one, a password; encrypted, never shown again."""
    ssh_key = key_file.read_text() if key_file else None
    password = prompt_secret("sudo password") if ask_become else None
    stored = call(url, key, lambda client: client.credentials.create(name, ssh_key, password))
    say(f"Stored {stored.name}. Use it: muster hosts add … --credential {stored.name}")


@nodes.command("list")
def list_nodes(url: Url = "", key: Key = "", as_json: Json = False) -> None:
    """List nodes."""
    found = call(url, key, lambda client: client.nodes.list())
    if as_json:
        return print_json(found)
    print_table(
        ["NAME", "STATE", "MODELS", "DEVICE", "VERSION", "URL"],
        [_node_row(node) for node in found],
        empty="No nodes yet. A node appears when its host is provisioned: muster jobs run site.yml HOST --watch",
    )


def _node_row(node: NodeOut) -> tuple[object, ...]:
    gpus = node.hardware.get("gpus") or []
    device = f"{len(gpus)} × {gpus[0].get('name')}" if gpus else "CPU"
    state = f"{node.state} (degraded)" if node.degraded else node.state
    if node.breakers:
        state = f"{state}, out of rotation ({node.breakers[0].cause})"
    return node.name, state, f"{node.ready_models.loaded}/{node.ready_models.total}", device, node.version, node.base_url


@nodes.command("show")
def show_node(name: Name, url: Url = "", key: Key = "") -> None:
    """Show everything about a node, as JSON."""
    print_json(call(url, key, lambda client: client.nodes.get(name)))


@nodes.command("approve")
def approve(name: Name, url: Url = "", key: Key = "") -> None:
    """Let a node in that registered without a host of ours. For admins."""
    say(f"{name} is {call(url, key, lambda client: client.nodes.approve(name)).state}.")


@nodes.command("drain")
def drain(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; shown to others.")] = "",
    force: Annotated[bool, typer.Option(help="Also if it is the last ready node of a model.")] = False,
    url: Url = "",
    key: Key = "",
) -> None:
    """Hold a node drained: it finishes what it has and gets nothing new."""
    say(f"{name} is {call(url, key, lambda client: client.nodes.drain(name, reason=reason, force=force)).state}.")


@nodes.command("resume")
def resume(
    name: Name,
    all_holds: Annotated[bool, typer.Option("--all", help="Also the holds of others and of jobs.")] = False,
    url: Url = "",
    key: Key = "",
) -> None:
    """Remove your own hold of a node."""
    node = call(url, key, lambda client: client.nodes.resume(name, all_holds=all_holds))
    held = ", ".join(f"{hold.holder} ({hold.reason})" if hold.reason else hold.holder for hold in node.holds)
    left = f"{name} is still held by {held}. --all removes that, too."
    say(left if node.holds else f"{name} is {node.state}.")


@nodes.command("delete")
def delete_node(name: Name, yes: Yes = False, url: Url = "", key: Key = "") -> None:
    """Forget a node; its token stops working."""
    yes or confirm(f"Forget node {name}?")
    call(url, key, lambda client: client.nodes.delete(name))
    say(f"Forgot {name}.")
