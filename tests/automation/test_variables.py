"""What may be given as a variable."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_api.access.principal import with_implied
from control_api.access.schemas import Scope
from control_api.automation.values import is_bounded, kinds
from control_api.automation.variables import OptionClass, VariableRules
from control_api.errors import BadInput, Forbidden, StartupError
from tests.automation.site import PROJECT, REPOSITORY

RULES = VariableRules.load(PROJECT)
ADMIN = with_implied([Scope.ADMIN])
OPERATE = with_implied([Scope.OPERATE])

DEEP: dict[str, Any] = {}
for _ in range(100):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"demo_greeting": "{{ 1+1 }} ' \" $(id) ü\n"},
        {"demo_seconds": 3, "demo_ratio": 0.5, "demo_flag": False, "demo_colour": "red"},
        {"demo_ratio": 1},
        {"demo_list": ["a", "b"], "demo_map": {"any": {"thing": [1, None]}}},
        {"demo_shape": {"sides": 3, "label": "triangle"}},
        {"muster_no_proxy": "localhost,.example.org"},
    ],
)
def test_accepts_public_options(variables: dict[str, Any]) -> None:
    RULES.check(variables, scopes=ADMIN)


@pytest.mark.parametrize(
    ("variables", "field", "message"),
    [
        ({"ansible_connection": "local"}, "ansible_connection", "configures Ansible"),
        ({"ansible_ssh_common_args": "-o ProxyCommand=id"}, "ansible_ssh_common_args", "configures Ansible"),
        ({"_demo_private": "x"}, "_demo_private", "private"),
        ({"nothing": 1}, "nothing", "not an option"),
        ({"demo_controller_dir": "/etc"}, "demo_controller_dir", "MUSTER_SITE_DIR"),
        ({"demo_token": "secret"}, "demo_token", "MUSTER_SITE_DIR"),
        ({"demo_seconds": "3"}, "demo_seconds", "must be int, not str"),
        ({"muster_privileged": False}, "muster_privileged", "class site.*MUSTER_SITE_DIR"),
        ({"demo_map": {1: 2}}, "", "no text"),
        ({"demo_list": [{1, 2}]}, "", "nothing that JSON has"),
        ({"demo_list": [10**5000]}, "", "more than 64 bits"),
        ({"demo_list": ["x"] * 65}, "demo_list", "at most 64"),
        ({"demo_seconds": 1001}, "demo_seconds", "0 to 1000"),
        ({"demo_seconds": True}, "demo_seconds", "must be int, not bool"),
        ({"demo_flag": "yes"}, "demo_flag", "must be bool, not str"),
        ({"demo_greeting": None}, "demo_greeting", "must be str"),
        ({"demo_greeting": 1}, "demo_greeting", "must be str, not int"),
        ({"demo_colour": "blue"}, "demo_colour", "one of red, green"),
        ({"demo_list": ["a", 1]}, "demo_list.1", "must be str, not int"),
        ({"demo_list": "a"}, "demo_list", "must be list"),
        ({"demo_shape": {"sides": 3, "x": 1}}, "demo_shape.x", "is unknown"),
        ({"demo_shape": {}}, "demo_shape.sides", "is required"),
        ({"demo_greeting": "a\0b"}, "", "NUL"),
        ({"demo_map": {"a\0": 1}}, "", "NUL"),
        ({"demo_ratio": math.inf}, "", "not finite"),
        ({"demo_greeting": "x" * 1_000_000}, "", "at most 65536"),
        ({"demo_map": DEEP}, "", "nested deeper"),
    ],
)
def test_refuses_everything_else_and_names_the_field(variables: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        RULES.check(variables, "extra_vars", scopes=ADMIN)
    assert caught.value.status == 422
    assert caught.value.details[0]["field"] == f"extra_vars.{field}".rstrip(".")


OURS = VariableRules.load(REPOSITORY)
WRITTEN = yaml.safe_load((REPOSITORY / "control_api" / "automation" / "variables.yml").read_text())


def public_options(folder: Path) -> set[str]:
    """Return the options of all roles that jobs run, and the variables of the playbooks, as they are written down."""
    found = set(WRITTEN["playbooks"])
    for path in folder.glob("roles/*/meta/argument_specs.yml"):
        if path.parts[-3] not in WRITTEN["closed_roles"]:
            for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
                found |= set(entry.get("options", {}))
    return found


def test_every_option_has_a_class_and_every_class_an_option() -> None:
    assert set(WRITTEN["options"]) == public_options(REPOSITORY)
    for name, rule in WRITTEN["options"].items():
        assert rule["class"] in set(OptionClass), name
        assert rule.keys() <= {"class", "between", "is", "at_most", "controller"}, name
        assert rule.get("is", "any") in kinds(), name


def test_every_value_that_comes_through_the_api_has_a_bound() -> None:
    through_the_api = {name: option for name, option in OURS.options.items() if option.kind is not OptionClass.SITE}

    assert len(through_the_api) > 40
    assert [name for name, option in through_the_api.items() if not is_bounded(option.spec, option.rule)] == []


def test_the_controller_takes_open_options_alone() -> None:
    taken = {name: option.kind for name, option in OURS.options.items() if option.controller}

    assert set(taken.values()) == {OptionClass.OPEN}
    assert OURS.options.keys() - taken.keys() >= {"gpu_host_allow_reboot", "node_service_port", "node_service_proxy_env"}


def test_an_option_without_a_class_is_the_sites(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project)
    (project / "variables.yml").unlink()

    with pytest.raises(BadInput, match="class site"):
        VariableRules.load(project).check({"demo_greeting": "hi"}, scopes=ADMIN)


def test_a_class_that_there_is_not_keeps_the_process_from_starting(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project)
    (project / "variables.yml").write_text("options: {demo_greeting: {class: opne}}")

    with pytest.raises(StartupError, match="demo_greeting"):
        VariableRules.load(project)


@pytest.mark.parametrize("name", sorted(OURS.options))
def test_the_class_of_an_option_decides_who_sets_it(name: str) -> None:
    option = OURS.options[name]
    allowed = {OptionClass.OPEN: (OPERATE, ADMIN), OptionClass.ADMIN: (ADMIN,), OptionClass.SITE: ()}[option.kind]

    for scopes in (OPERATE, ADMIN):
        if scopes in allowed:
            OURS.check({name: GOOD[name]}, scopes=scopes)
        else:
            with pytest.raises((BadInput, Forbidden), match=f"{name}: is of class {option.kind}.*MUSTER_SITE_DIR"):
                OURS.check({name: GOOD.get(name, "x")}, scopes=scopes)


GOOD: dict[str, Any] = {
    "drain_reason": "Lüfter, 2. Rack: 修理中",
    "gpu_host_driver": "nvidia",
    "gpu_host_driver_flavour": "open",
    "gpu_host_driver_version": "580.105.08",
    "gpu_host_firewall_sources": ["10.0.0.0/24", "2001:db8::/32", "10.0.0.1"],
    "gpu_host_no_proxy": "localhost,127.0.0.1,.example.org,10.0.0.0/8,[::1]",
    "gpu_host_proxy_env": {"http_proxy": "http://proxy.example.org:3128/", "no_proxy": "*"},
    "model_distribution_if_installed": "redownload",
    "model_distribution_models": ["gpt-oss:20b", "acme/tiny-embed:q4_0", "llama-3.1:8b"],
    "muster_no_proxy": "",
    "muster_proxy_env": {"https_proxy": "https://[2001:db8::1]:3128"},
    "node_service_log_level": "debug",
    "node_service_no_proxy": "localhost",
    "node_service_proxy_env": {},
    "node_service_tags": ["site:tokyo", "rack 4"],
    **{name: option.rule["between"][1] for name, option in OURS.options.items() if "between" in option.rule},
    **{name: True for name, option in OURS.options.items() if option.spec["type"] == "bool"},
}

URLS = (
    "http://user:p%40ss@proxy.example.org:3128",
    "http://token@proxy.example.org",
    "file:///etc/shadow",
    "http://h\nX=1",
    "http://h$(id)",
    "http://h/`id`",
    "http://h;id",
    "javascript:alert(1)",
    "http:// h",
    "h:3128",
)
PROXY_NAMES = ("PYTHONWARNINGS", "BROWSER", "LD_PRELOAD", "BASH_ENV", "PATH", "all_proxy", "HTTP_PROXY", "http_proxy\n", "")
PROXIES: list[Any] = [
    *({name: "x"} for name in PROXY_NAMES),
    *({"https_proxy": url} for url in URLS),
    {"https_proxy": 1},
    {"https_proxy": ["x"]},
    {"no_proxy": "a b"},
    {"no_proxy": "a\n"},
    {"http_proxy": "http://" + "a" * 600},
]
HOSTS = ["localhost\n", "a,$(id)", "a b", "a,,b", "%h", "'", '"', "{{ 1 }}", "a\\b", "x," * 200]
TEXTS = [
    "a\nb",
    "\x1b]0;x\x07",
    "\u202egnp.exe",
    "\x85",
    "\u2028",
    "\u200b",
    "\ud800",
    "x" * 257,
    "\U000e0041",
    "\x9b2J",
    "\xad",
]
VERSIONS = ["580\n", "580; id", "580 590", "../580", "*", "=1", "-o", "5" * 65, "{{ 1 }}", "580.", "\uff15\uff18\uff10"]
SOURCES = [
    "10.0.0.0/24\n",
    "0/0; flush ruleset",
    "fe80::1%eth0;id",
    "example.org",
    "",
    "10.0.0.300",
    "10.0.0.0/255.0.0.0",
    "10.0.0.0/0.0.0.255",
]
MODELS = ["../../hosts/x", "a\n", "a?b", "a#b", "a/../b", "//x", "a b", "", "a" * 129, "a%2e"]
TAGS = ["a\n", "{{ 1 }}", "", "-x", "a" * 64]
EVIL: dict[str, list[Any]] = {
    "muster_proxy_env": PROXIES,
    "gpu_host_proxy_env": PROXIES,
    "node_service_proxy_env": PROXIES,
    "muster_no_proxy": HOSTS,
    "node_service_no_proxy": HOSTS,
    "drain_reason": TEXTS,
    "gpu_host_driver_version": VERSIONS,
    "gpu_host_firewall_sources": [[source] for source in SOURCES] + [["10.0.0.1"] * 65],
    "model_distribution_models": [[model] for model in MODELS] + [["a"] * 1001],
    "node_service_tags": [[tag] for tag in TAGS] + [["a"] * 33],
    "node_service_port": [0, 22, -1, 65536, 10**18],
    "gpu_host_firewall_port": [22],
    "node_service_log_level": ["trace", "info\n"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in EVIL.items() for value in values])
def test_a_value_that_could_become_something_else_is_refused_to_admins_too(name: str, value: Any) -> None:
    with pytest.raises(BadInput, match=r"must be|at most") as caught:
        OURS.check({name: value}, scopes=ADMIN)
    assert caught.value.details[0]["field"].startswith(f"variables.{name}")


@pytest.mark.parametrize("name", [name for name, option in OURS.options.items() if "between" in option.rule])
def test_no_number_is_without_a_bound(name: str) -> None:
    option = OURS.options[name]
    low, high = option.rule["between"]

    for value in (low - 1, high + 1, 10**18):
        with pytest.raises(BadInput):
            OURS.check({name: value}, scopes=ADMIN)
    assert high <= 1 << 50


def test_project_without_roles_knows_the_playbooks_own_variables(tmp_path: Path) -> None:
    VariableRules.load(tmp_path).check({"muster_no_proxy": "localhost"}, scopes=ADMIN)


def test_options_of_the_control_plane_are_not_for_callers() -> None:
    with pytest.raises(BadInput, match="not an option of any role"):
        OURS.check({"control_plane_api_port": 1}, scopes=ADMIN)
