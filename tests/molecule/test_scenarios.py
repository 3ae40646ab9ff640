"""Molecule's scenarios of the roles, each on real hosts: bare, converged, converged again, disturbed, verified."""

from pathlib import Path

import pytest

from tests.molecule.conftest import SCENARIOS, TIMEOUT_S, Molecule

pytestmark = [pytest.mark.slow, pytest.mark.hosts, pytest.mark.timeout(TIMEOUT_S + 60), pytest.mark.xdist_group("lab-molecule")]


@pytest.mark.parametrize("scenario", sorted(path.parent.name for path in SCENARIOS.glob("*/molecule.yml")))
def test_scenario(molecule: Molecule, scenario: str, tmp_path: Path) -> None:
    done = molecule.test(scenario, tmp_path)

    assert done.returncode == 0, done.stdout
