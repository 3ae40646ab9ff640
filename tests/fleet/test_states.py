"""The state of a node as a function of the facts: properties that hold for all of them."""

from hypothesis import given
from hypothesis import strategies as st

from control_api.fleet.states import Admission, Facts, NodeState, derive

FACTS = st.builds(
    Facts,
    admission=st.sampled_from(Admission),
    silent=st.booleans(),
    applied=st.booleans(),
    was_online=st.booleans(),
    loaded=st.integers(0, 5),
    failed=st.integers(0, 5),
    total=st.integers(0, 5),
    in_flight=st.integers(0, 3),
    all_required=st.booleans(),
)


@given(FACTS)
def test_only_an_open_node_that_speaks_is_online(facts: Facts) -> None:
    if derive(facts) is NodeState.ONLINE:
        assert facts.admission is Admission.OPEN
        assert not facts.silent


@given(FACTS)
def test_a_node_that_is_not_approved_is_pending_whatever_it_says(facts: Facts) -> None:
    assert (derive(facts) is NodeState.PENDING) == (facts.admission is Admission.PENDING)


@given(FACTS)
def test_a_silent_node_never_looks_alive(facts: Facts) -> None:
    if facts.silent and facts.admission is not Admission.PENDING:
        assert derive(facts) is NodeState.OFFLINE


@given(FACTS)
def test_drained_means_that_nothing_is_in_flight(facts: Facts) -> None:
    if derive(facts) is NodeState.DRAINED:
        assert facts.in_flight == 0
        assert facts.admission is Admission.DRAINED


@given(FACTS)
def test_a_fresh_node_is_not_online_before_its_manifest_is_applied_and_settled(facts: Facts) -> None:
    if derive(facts) is NodeState.ONLINE and not facts.was_online:
        assert facts.applied
        assert facts.loaded + facts.failed >= facts.total
        assert facts.loaded >= 1 or facts.total == 0
        assert facts.loaded == facts.total or not facts.all_required
