"""What may be given as a variable."""

import math
from pathlib import Path
from typing import Any

import pytest

from control_api.automation.variables import VariableRules
from control_api.errors import BadInput
from tests.automation.site import PROJECT, REPOSITORY

RULES = VariableRules.load(PROJECT)

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
        {"muster_privileged": False},
    ],
)
def test_accepts_public_options(variables: dict[str, Any]) -> None:
    RULES.check(variables)


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
        RULES.check(variables, "extra_vars")
    assert caught.value.status == 422
    assert caught.value.details[0]["field"] == f"extra_vars.{field}".rstrip(".")


def test_roles_of_this_repository_can_be_read() -> None:
    rules = VariableRules.load(REPOSITORY)
    rules.check({"gpu_host_require_gpu": False, "muster_privileged": False})
    with pytest.raises(BadInput):
        rules.check({"gpu_host_require_gpu": "no"})
    with pytest.raises(BadInput, match="the site's to set"):
        rules.check({"gpu_host_driver_repository_url": "http://192.0.2.1"})


def test_project_without_roles_knows_the_playbooks_own_variables(tmp_path: Path) -> None:
    VariableRules.load(tmp_path).check({"muster_no_proxy": "localhost"})


def test_options_of_the_control_plane_are_not_for_callers() -> None:
    with pytest.raises(BadInput, match="not an option of any role"):
        VariableRules.load(REPOSITORY).check({"control_plane_api_port": 1})
