"""The templates, contents and commands of the roles, rendered by Ansible's own engine in this process."""

import re
import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any
from unittest import mock

from ansible._internal._templating._jinja_bits import AnsibleEnvironment
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import action_loader, filter_loader, init_plugin_loader
from ansible.template import Templar, trust_as_template

from tests.ansible.formats import READERS, Shape, json_keys, one_line, shell
from tests.ansible.runs import ROOT

ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
COMMANDS = ("ansible.builtin.shell", "ansible.builtin.command")
FACTS = {
    "architecture": "x86_64",
    "distribution": "Debian",
    "distribution_version": "13.1",
    "distribution_major_version": "13",
    "distribution_release": "trixie",
    "kernel": "6.12.1-amd64",
    "os_family": "Debian",
    "service_mgr": "systemd",
    "python": {"executable": "/usr/bin/python3"},
}
# What tasks before would have found, and what is costly to find out for each of thousands of renderings.
FOUND: dict[str, Any] = {
    "inventory_hostname": "gpu-01",
    "ansible_host": "192.0.2.11",
    "ansible_facts": FACTS,
    "ansible_check_mode": False,
    "groups": {"gpu_hosts": ["gpu-01"]},
    "muster_api_url": "http://192.0.2.1:8080",
    "muster_router_url": "http://192.0.2.2:8000",
    "__node_service_found": {"rc": 0, "stdout_lines": ["3.13 /usr/bin/python3.13", "nvidia"]},
    "__node_service_probe": {"stdout_lines": ["/opt/muster-node/releases/1-000000000000", "active", "0", "staged"]},
    "__node_service_enrolment": {},
    "_node_service_wheelhouse": {},
    "_node_service_bundle": {"sha256": "a" * 64, "file": "node.tar"},
    "_node_service_release": "1-000000000000",
    "__gpu_host_probe": {"stdout_lines": ["gpu 0000:01:00.0 0x2330", "boot another", "firewall nftables"]},
    "__gpu_host_smi": {"rc": 9},
    "_gpu_host_sources": trust_as_template("{{ gpu_host_firewall_sources }}"),
    "__gpu_host_installed": {"stdout_lines": ["installed nvidia-driver-cuda 580.1-1"]},
    "__gpu_host_ubuntu_branch": {"stdout": "580"},
    "__control_plane_python": {"stdout": "3.13 /usr/bin/python3.13"},
    "_control_plane_wheelhouse": {},
    "_control_plane_bundle": {"sha256": "b" * 64, "file": "plane.tar"},
    "_control_plane_release": "1-000000000000",
    "__control_plane_running": {"stdout": "/opt/muster/releases/1-000000000000"},
    "__control_plane_now": "20260101T000000Z",
}
# What a loop or the task itself gives to it, where the value of no option is in it.
LOOPED: dict[str, list[dict[str, Any]]] = {
    "ipset.xml.j2": [{"item": "4"}, {"item": "6"}],
    # The API and the worker: the others have no line of their own.
    "muster.service.j2": [{"service": trust_as_template(f"{{{{ _control_plane_services[{index}] }}}}")} for index in range(2)],
    "Make the secrets that nobody gave": [{"item": "muster_routing_key"}],
    "Write the secrets that are given": [
        {"item": {"key": name, "value": trust_as_template(f"{{{{ _control_plane_given_secrets.{name} }}}}")}}
        for name in ("muster_routing_key", "muster_credentials_key", "muster_bootstrap_api_key", "muster_hub_token")
    ],
}


@dataclass(frozen=True, eq=False)
class Product:
    """Something that a role writes or runs.

    Parameters
    ----------
    role, name: where it is from.
    source: template.
    reader: how it is read.
    local: variables of its loop.
    """

    role: str
    name: str
    source: str
    reader: Any
    local: tuple[tuple[str, Any], ...] = ()

    def shape(self, text: str) -> Shape:
        """Return what a program would read in it."""
        return self.reader(text)  # type: ignore[no-any-return]


@contextmanager
def compiled_once() -> Iterator[None]:
    """Have Jinja compile each source once. Ansible compiles all of them again for each rendering, which is most of its time."""
    compile_source = AnsibleEnvironment.compile
    compiled: dict[str, CodeType] = {}

    def once(environment: AnsibleEnvironment, source: Any, *arguments: Any, **options: Any) -> Any:
        if not isinstance(source, str):
            return compile_source(environment, source, *arguments, **options)
        if source not in compiled:
            compiled[source] = compile_source(environment, source, *arguments, **options)
        return compiled[source]

    with mock.patch.object(AnsibleEnvironment, "compile", once):
        yield


@cache
def _ready() -> None:
    init_plugin_loader()
    filter_loader.add_directory(str(ROOT / "plugins" / "filter"))
    action_loader.add_directory(str(ROOT / "plugins" / "action"))


@cache
def role(name: str) -> dict[str, Any]:
    """Return defaults and variables of a role, and what tasks would have found."""
    _ready()
    loader, folder = DataLoader(), ROOT / "roles" / name
    files = [folder / "defaults" / "main.yml", *sorted((folder / "vars").rglob("*.yml"))]
    loaded: dict[str, Any] = {}
    for path in files:
        loaded |= loader.load_from_file(str(path), cache="none", unsafe=False, trusted_as_template=True)
    return loaded | FOUND | {"role_path": str(folder)}


@cache
def specs(name: str) -> dict[str, Any]:
    """Return the argument specs of all options of a role."""
    document = DataLoader().load_from_file(str(ROOT / "roles" / name / "meta" / "argument_specs.yml"), cache="none")
    entries = document["argument_specs"].values()
    return {option: spec for entry in entries for option, spec in entry.get("options", {}).items()}


def kinds(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return of which kind each option has to be."""
    return value_of(name, f"_{name}_kinds", values)  # type: ignore[no-any-return]


def value_of(name: str, variable: str, values: dict[str, Any]) -> Any:
    """Return a variable of a role, with options as given."""
    return Templar(DataLoader(), role(name) | values).template(trust_as_template(f"{{{{ {variable} }}}}"))


def refused(name: str, option: str, value: Any, values: dict[str, Any]) -> bool:
    """Whether the argument spec or the action of the role's first task refuses a value."""
    checked = _kinds_of(name, str(values.get("node_service_manager", "")), str(values.get("node_service_state_dir", "")))
    if _problems()({option: checked[option]}, {option: value}):
        return True
    spec = {key: part for key, part in specs(name)[option].items() if key in ("type", "elements", "choices")}
    return bool(ArgumentSpecValidator({option: spec}).validate({option: value}).error_messages)


@cache
def _problems() -> Any:
    _ready()
    return action_loader.get("muster_options", class_only=True).run.__globals__["problems"]


@cache
def _kinds_of(name: str, manager: str, state_dir: str) -> dict[str, Any]:
    return kinds(name, {"node_service_manager": manager or "systemd", "node_service_state_dir": state_dir})


def render(product: Product, values: dict[str, Any]) -> str:
    """Return what is written or run; raises what Ansible raises."""
    templar = Templar(DataLoader(), role(product.role) | values | dict(product.local))
    lookups = templar.copy_with_new_env(searchpath=[str(ROOT / "roles" / product.role / "templates")])
    return str(lookups.template(trust_as_template(product.source)))


def products(name: str) -> list[Product]:
    """Return all that a role writes or runs."""
    folder = ROOT / "roles" / name
    found = [
        Product(name, path.name, path.read_text(), READERS[path.name], local)
        for path in sorted((folder / "templates").glob("*"))
        for local in _locals(path.name)
    ]
    for path in sorted((folder / "tasks").glob("*.yml")):
        for task in _tasks(DataLoader().load_from_file(str(path), cache="none")):
            found += _of_task(name, f"{path.stem}: {task.get('name')}", task)
    return found


def _locals(of: str) -> list[tuple[tuple[str, Any], ...]]:
    return [tuple(local.items()) for local in LOOPED.get(of, [{}])]


def behind(product: Product) -> set[str]:
    """Return all words in what a product is made from, and in the variables that these words name."""
    known, found = role(product.role), set[str]()
    todo = [product.source, *(str(part) for _, part in product.local)]
    while todo:
        fresh = set(re.findall(r"\w+", todo.pop())) - found
        found |= fresh
        todo += [str(known[word]) for word in fresh if word in known]
    return found


def _tasks(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        yield entry
        for part in ("block", "rescue", "always"):
            yield from _tasks(entry.get(part, []))


def _of_task(role_name: str, name: str, task: dict[str, Any]) -> Iterator[Product]:
    short = name.split(": ", 1)[1]
    if (content := (task.get("ansible.builtin.copy") or {}).get("content")) and "{{" in content:
        reader = json_keys if "to_nice_json" in content else one_line
        for local in _locals(short):
            yield Product(role_name, name, content, reader, local)
    for module in COMMANDS:
        if script := task.get(module):
            text = script if isinstance(script, str) else script.get("cmd")
            if text and "{{" in text:
                own = {key: trust_as_template(part) for key, part in (task.get("vars") or {}).items()}
                for local in _locals(short):
                    yield Product(role_name, name, text, shell, (*local, *own.items()))


def _filters() -> dict[str, Callable[[Any], str]]:
    return runpy.run_path(str(ROOT / "plugins" / "filter" / "muster.py"))["FilterModule"]().filters()  # type: ignore[no-any-return]


FILTERS = _filters()


def templates() -> set[Path]:
    """Return all templates of all roles."""
    return {path for path in (ROOT / "roles").glob("*/templates/**/*") if path.is_file()}
