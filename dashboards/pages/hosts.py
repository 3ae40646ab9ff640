"""The hosts: machines that Ansible reaches, and what jobs made of them."""

from typing import Any

from panel import ui
from panel.viewable import Viewable
from pydantic import ValidationError

from control_api.client.schemas import Acceptance, HostCreate, HostOut, JobCreate
from dashboards.components.dialogs import FormDialog, typed
from dashboards.components.listing import Listing
from dashboards.components.status import of_host
from dashboards.components.view import Action
from dashboards.pages.base import Desk, Page

PLAYBOOK = "site.yml"


class Hosts(Page):
    """Lists hosts, adds, accepts and provisions them."""

    template = "hosts.html"
    listing: Listing[HostOut]

    def __init__(self, desk: Desk, query: dict[str, str]) -> None:
        super().__init__(desk, query)
        self.listing = Listing(
            {"name": lambda host: host.name, "address": lambda host: host.address, "state": of_host},
            lambda host: f"{host.name} {host.address} {' '.join(host.tags)}",
            of_host,
            order="name",
        )
        self._form = FormDialog(desk.words, desk.change, self.text("Add a host"), self.text("Add the host"))

    def context(self) -> dict[str, Any]:
        """Return the hosts that are shown."""
        return {"rows": self.listing.rows(self.desk.store.snapshot.hosts)}

    def content(self) -> list[Viewable]:
        """Return the list and its dialog."""
        return [self.view, self._form.dialog]

    async def act(self, action: Action) -> None:
        """Add, accept, provision or forget a host."""
        host = self.desk.store.snapshot.host(action.value)
        if action.name == "add":
            await self._add()
        elif action.name == "accept" and host:
            self._ask_accept(host)
        elif action.name == "provision" and host:
            with self.reporting():
                job = await self.desk.client.jobs.create(JobCreate(playbook=PLAYBOOK, hosts=[host.id]))
                self.desk.store.touch("jobs", "hosts")
                await self.desk.go(f"/jobs?id={job.id}")
        elif action.name == "forget" and host:
            self.desk.ask(
                self.text("Forget host %s?") % host.name,
                self.text("Its node is forgotten too and serves no requests any more. Nothing on the machine is changed."),
                self.text("Forget the host"),
                lambda: self._forget(host.id),
            )
        else:
            await super().act(action)

    def _ask_accept(self, host: HostOut) -> None:
        async def accept() -> None:
            await self.desk.client.hosts.accept(host)
            self.desk.store.touch("hosts")
            self.desk.say("ok", self.text("Host %s is accepted. Provision it next.") % host.name)

        login = f"{host.user}@{host.address}" if host.user else host.address
        through = [f"{login}:{host.port}", host.jump_host, host.become_exe, host.python]
        text = self.text("Jobs, keys and passwords of this site will reach it: %s. Is this machine yours?")
        self.desk.ask(
            self.text("Accept host %s?") % host.name,
            text % ", ".join(part for part in through if part),
            self.text("Accept the host"),
            accept,
            danger=False,
        )

    async def _forget(self, host_id: str) -> None:
        await self.desk.client.hosts.delete(host_id)
        self.desk.store.touch("hosts", "nodes")

    def _explain(self, error: ValidationError) -> str:
        first = error.errors()[0]
        known = {
            "name": self.text("The name may hold letters, digits and . _ - and begins with a letter or a digit."),
            "address": self.text("The address must be an IP address or a DNS name."),
            "user": self.text("The SSH user is not a user name."),
            "tags": self.text("A tag may hold letters, digits, spaces and : . _ / - and begins with a letter or a digit."),
        }
        return known.get(str(first["loc"][0]), first["msg"])

    async def _add(self) -> None:
        _ = self.text
        wide: dict[str, Any] = {"sizing_mode": "stretch_width"}
        name = ui.TextInput(label=_("Name"), placeholder="gpu-01", **wide)
        address = ui.TextInput(label=_("Address (IP or DNS name)"), placeholder="10.0.0.11", **wide)
        port = ui.IntInput(label=_("SSH port"), value=22, start=1, end=65535, **wide)
        user = ui.TextInput(label=_("SSH user"), placeholder="root", **wide)
        tags = ui.TextInput(label=_("Tags, separated by commas"), placeholder="site:tokyo, gpu-a", **wide)
        sudo = ui.Checkbox(label=_("Become root with sudo"), value=True)
        gpu = ui.Checkbox(label=_("The host must have an NVIDIA GPU"), value=True)
        admin, keys = self.desk.user.is_admin, dict[str, str]()
        if admin:
            with self.reporting():
                keys = {credential.name: credential.id for credential in await self.desk.client.credentials.list()}
        own = _("The control plane's own SSH key or agent")
        credential = ui.Select(label=_("Credential"), options=[own, *keys], value=own, **wide)

        async def add() -> None:
            host = HostCreate(
                name=typed(name),
                address=typed(address),
                port=port.value,
                user=typed(user) or None,
                become=sudo.value,
                credential_id=keys.get(credential.value),
                tags=[tag.strip() for tag in typed(tags).split(",") if tag.strip()],
                variables={} if gpu.value else {"gpu_host_require_gpu": False},
            )
            added = await self.desk.client.hosts.create(host)
            self.desk.store.touch("hosts")
            waits = added.acceptance is Acceptance.PROPOSED
            said = (
                _("Host %s was added. An administrator has to accept it.")
                if waits
                else _("Host %s was added. Provision it next.")
            )
            self.desk.say("ok", said % host.name)

        async def checked() -> None:
            try:
                await add()
            except ValidationError as error:
                raise ValueError(self._explain(error)) from error

        lead = _("Muster reaches it over SSH. Its host key is pinned at the first contact.")
        # Only administrators may set these.
        theirs = [credential, tags] if admin else []
        self._form.fill(lead, [name, address, ui.Row(user, port, **wide), *theirs, sudo, gpu], checked)
