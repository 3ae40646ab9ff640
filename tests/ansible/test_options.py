"""Whatever the value of an option is: it is refused, or it is one value in what the role writes and runs.

Whether a unit is valid says nothing here: one with a line that somebody else wrote is as valid. What counts is that no section,
key or word is there that a harmless value does not make.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from jinja2 import Environment, nodes

from tests.ansible.formats import READERS, Shape, environment, unit
from tests.ansible.rendering import (
    FILTERS,
    ROLES,
    Product,
    behind,
    compiled_once,
    kinds,
    products,
    refused,
    render,
    specs,
    templates,
)

PRODUCT_OF_JINJA = "42042"
HOSTILE = [
    "\n", "\r", "\r\n", "\0", "\t", "\x0b", "\x0c", "\x1b[2J", "\x1e", "\x7f", "\x85", "\u2028", "\u2029", "\u202e",
    "\u200b", "\ufeff", "\udc80", "\n[Service]\nExecStartPre=+/bin/sh -c id\n", "\nLD_PRELOAD=/tmp/x.so",
    "\nURIs: http://192.0.2.66", "\\\n", "\\", "\\n", "/..", "/../..", "../", "..", "/./", "//", "%", "%n", "%%", "$",
    "${X}", "$(id)", "`id`", "'", "''", '"', '"; x "', "' x '", ";", "; flush ruleset", "#", " #", "//", "/*", " ", "  x",
    "x y", "{{ 6 * 7007 }}", "{% raw %}", "{#", "{", "}", "} }", "<", "</entry><x/>", "&", "&amp;", "|", "*", "?", "~",
    "-", "--x", "=", "x=y", ",", ":", "@", "!", "ü", "\u0663", "\U0001f600",
]  # fmt: skip
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQINBA==\n-----END PGP PUBLIC KEY BLOCK-----"
STATE_DIR = "/home/o p%n/$X/${Y}/'\"ü;#/muster"
# A harmless value of each kind.
SAMPLES: dict[str, Any] = {
    "flag": True, "count": 7, "port": 9090, "word": "info", "service": "llm-node", "user": "llm", "folder": "/srv/llm/node",
    "backup_folder": "/srv/backup", "config_folder": "/etc/llm", "path": "/etc/ssl/site.pem", "python": "/usr/bin/python3.13",
    "controller_path": "/home/ops/wheels", "address": "192.0.2.7", "sources": ["192.0.2.0/24"], "url": "https://one.example/a",
    "proxies": {"https_proxy": "http://proxy.example:3128"}, "hosts": "localhost,10.0.0.0/8",
    "sysctl": {"net.ipv4.tcp_rmem": "1 2 3"}, "version": "580.105.08", "public_key": KEY, "secret": "hf_secret",
    "database": "postgresql+psycopg://muster:x@db.example/muster", "tags": ["rack-7"], "models": ["smollm2:135m"],
    "settings": {"auto_distribution": "best-fit"},
}  # fmt: skip
CHOSEN: dict[str, dict[str, Any]] = {
    "node_service": {"node_service_engines_file": ""},
    "gpu_host": {"gpu_host_driver": "nvidia", "gpu_host_driver_flavour": "open"},
    "control_plane": {"control_plane_node_wheelhouse_dir": ""},
    "model_distribution": {"model_distribution_if_installed": "skip"},
}
# What runs where: the second manager of the node service, and the other source of drivers.
PLACES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ROLES),
    ("gpu_host", {"gpu_host_driver": "distribution"}),
    (
        "node_service",
        {
            "node_service_manager": "process", "node_service_state_dir": STATE_DIR,
            "node_service_home": f"{STATE_DIR}/llm", "node_service_data_dir": f"{STATE_DIR}/llm/data",
        },
    ),
]  # fmt: skip
# An armoured key is a file of its own, of which the next program reads nothing else.
WHOLE_FILES = {("gpu_host", "gpu_host_driver_repository_key")}


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with compiled_once():
        yield


def base(role: str, place: dict[str, Any]) -> dict[str, Any]:
    """Return a harmless value of every option, so that every line of a template is there."""
    fixed = {"node_service_manager": "systemd"} | CHOSEN[role] | place
    found = {name: SAMPLES[kind] for name, kind in kinds(role, fixed).items() if isinstance(kind, str)}
    chosen = {name: spec["default"] for name, spec in specs(role).items() if "choices" in spec}
    return found | chosen | fixed


def forms(sample: Any) -> list[tuple[str, Callable[[str], Any]]]:
    """Return each text in a harmless value, and how a value is made with another one in its place."""
    if isinstance(sample, list):
        return [(str(sample[0]), lambda text: [sample[0], text])]
    if isinstance(sample, dict):
        ((key, value),) = sample.items()
        return [
            (str(value), lambda text: {key: text}),
            (key, lambda text: {text: value}),
            (key, lambda text: {key: {text: [text]}}),
        ]
    return [(str(sample), lambda text: text), (str(sample), lambda text: [text]), (str(sample), lambda text: {text: text})]


def _worse(text: str, hostile: str) -> list[str]:
    middle = len(text) // 2
    return [hostile, text + hostile, hostile + text, text[:middle] + hostile + text[middle:]]


def touched(role: str, manager: str = "systemd") -> dict[str, list[Product]]:
    """Return for each option what it goes into."""
    made = {
        product.source: product for product in products(role) if manager == "systemd" or product.reader is not unit
    }.values()
    found = {option: [product for product in made if option in behind(product)] for option in specs(role)}
    # What these name is read on the controller.
    return {option: [] if kinds(role, {})[option] == "controller_path" else made for option, made in found.items()}


@pytest.mark.parametrize("index", range(len(PLACES)), ids=lambda index: f"{PLACES[index][0]}-{index}")
def test_a_value_is_refused_or_stays_one_value(index: int) -> None:
    role, place = PLACES[index]
    values = base(role, place)
    passed = 0
    for option, reached in touched(role, values["node_service_manager"]).items():
        for value, harmless in accepted(role, option, values):
            passed += 1
            for product in reached:
                text = render(product, values | {option: value})
                assert PRODUCT_OF_JINJA not in text, (option, value)
                assert product.shape(text) == product.shape(render(product, values | {option: harmless})), (
                    product.name,
                    option,
                    value,
                )
    assert passed > 0


def accepted(role: str, option: str, values: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield what is not refused of hostile values, each with a harmless one of the same form. Each costs time."""
    if (role, option) in WHOLE_FILES:
        return
    for harmless, made in forms(values[option]):
        for before, after in (("", ""), (harmless, ""), ("", harmless)):
            good = [bad for bad in HOSTILE if not refused(role, option, made(before + bad + after), values)]
            together = "".join(good)
            if not refused(role, option, made(before + together + after), values):
                good = [together]
            yield from ((made(before + bad + after), made(harmless)) for bad in good if bad)


@pytest.mark.parametrize("path", sorted(templates()), ids=lambda path: path.name)
def test_a_template_takes_nothing_that_no_filter_has_looked_at(path: Path) -> None:
    """Also where nobody looked at the options before: a play may be started at any task."""
    outputs = [part for output in Environment().parse(path.read_text()).find_all(nodes.Output) for part in output.nodes]

    assert [part for part in outputs if not _is_safe(part)] == []


def _is_safe(node: nodes.Node) -> bool:
    """Whether an expression of a template is text of the role itself, a number, or what a filter of ours lets through."""
    match node:
        case nodes.TemplateData() | nodes.Const() | nodes.Name(name="version"):
            return True
        case nodes.Getattr(node=nodes.Name(name="service"), attr="what" | "process" | "user"):
            return True
        case nodes.Filter(name=name) if name in {*FILTERS, "int"}:
            return True
        case nodes.Filter(name="join", node=nodes.Filter(name="map", args=[nodes.Const(value=name)])):
            return name in FILTERS
        case nodes.CondExpr():
            return _is_safe(node.expr1) and node.expr2 is not None and _is_safe(node.expr2)
        case nodes.Add():
            return _is_safe(node.left) and _is_safe(node.right)
    return False


@pytest.mark.parametrize("name", ["muster_word", "muster_url"])
def test_a_word_is_refused_or_one_plain_word(name: str) -> None:
    for text in (text for hostile in HOSTILE for text in _worse("https://a.example", hostile)):
        try:
            made = FILTERS[name](text)
        except AnsibleError:
            continue
        assert re.fullmatch(r"[!-~]+", made) and not set(made) & set("\"'`\\;#$(){}<>|^"), text
        assert "%" not in made or name == "muster_url"


@pytest.mark.parametrize(("name", "read"), [("muster_unit_quoted", unit), ("muster_environment_quoted", environment)])
def test_a_value_in_quotes_is_refused_or_one_value(name: str, read: Callable[[str], Shape]) -> None:
    for text in (text for hostile in HOSTILE for text in _worse("a=b", hostile)):
        try:
            made = FILTERS[name](text)
        except AnsibleError:
            continue
        assert read(f"[S]\nE={made}\n")[1:] == read('[S]\nE="x"\n')[1:], text
        # What systemd takes off again: in a unit also the specifiers.
        escaped, plain = (r"\\([\\\"])", made.replace("%%", "%")) if name == "muster_unit_quoted" else (r"\\([\\\"`$])", made)
        assert re.sub(escaped, r"\1", plain)[1:-1] == text


def test_every_option_has_a_kind_and_every_template_a_reader() -> None:
    for role in ROLES:
        assert specs(role).keys() <= kinds(role, {}).keys()
    assert {path.name for path in templates()} == READERS.keys()


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_accepted(role: str) -> None:
    for option, spec in specs(role).items():
        value = spec.get("default")
        if not (isinstance(value, str) and "{{" in value):
            assert not refused(role, option, value, {}), option
