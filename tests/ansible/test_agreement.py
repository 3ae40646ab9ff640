"""What the API lets an option be, its role takes: a job never ends at a value that was accepted when it was asked for."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_api.access.principal import with_implied
from control_api.access.schemas import Scope
from control_api.automation import values
from control_api.automation.variables import OptionClass, VariableRules
from control_api.errors import BadInput
from tests.ansible.rendering import ROLES, refused, specs
from tests.automation.site import REPOSITORY

RULES = VariableRules.load(REPOSITORY)
ADMIN = with_implied([Scope.ADMIN])
BY_ROLE = {option: role for role in ROLES for option in specs(role)}
SETTABLE = sorted(name for name in BY_ROLE.keys() & RULES.options.keys() if RULES.options[name].kind is not OptionClass.SITE)


def matching(pattern: Any) -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True)


HOSTS = matching(values._HOSTS)
PROXY = matching(values._PROXY)
ADDRESSES = st.ip_addresses().map(str)
NETWORKS = ADDRESSES | st.builds("{}/{}".format, ADDRESSES, st.integers(0, 32))
TEXTS: dict[str, st.SearchStrategy[Any]] = {
    "hosts": HOSTS,
    "proxies": st.fixed_dictionaries({}, optional={"http_proxy": PROXY, "https_proxy": PROXY, "no_proxy": HOSTS}),
    "network": NETWORKS,
    "version": matching(values._VERSION),
    "tag": matching(values._TAG),
    "model": matching(values._MODEL),
}


def of_option(name: str) -> st.SearchStrategy[Any]:
    """Draw values that the rule of an option may let through, at its edges too."""
    spec, rule = RULES.options[name].spec, RULES.options[name].rule
    if choices := spec.get("choices"):
        return st.sampled_from(choices)
    if spec["type"] == "bool":
        return st.booleans()
    if between := rule.get("between"):
        return st.integers(*between) | st.sampled_from(between)
    text = TEXTS[rule["is"]]
    return st.lists(text, max_size=3) if spec["type"] == "list" else text


@pytest.mark.parametrize("option", SETTABLE)
def test_a_role_takes_what_the_api_lets_through(option: str) -> None:
    passed = []

    @settings(max_examples=50, deadline=None, database=None)
    @given(value=of_option(option))
    def look(value: Any) -> None:
        try:
            RULES.check({option: value}, scopes=ADMIN)
        except BadInput:
            return
        passed.append(value)
        assert not refused(BY_ROLE[option], option, value, {}), value

    look()
    assert passed
