"""Which machine a play of a job has reached, whatever its inventory calls it."""

import json

from tests.ansible.fake_api import FakeApi
from tests.ansible.runs import Ansible

OPTIONS = json.dumps({"muster_not_on_controller": ["node_service_port"], "muster_privileged": False})


def test_what_the_controller_does_not_take_stops_a_play_on_it_before_anything_else(api: FakeApi, ansible: Ansible) -> None:
    api.add_host("gpu-01", address="127.0.0.1", connection="local", become=False)

    run = ansible.playbook("playbooks/repair.yml", "--check", "--tags", "node_service_preflight", "--extra-vars", OPTIONS)

    said = " ".join(run.output.split())
    assert run.rc == 2, said
    assert "This is the machine that runs the jobs, and takes node_service_port from no job." in said
    assert "MUSTER_SITE_DIR" in said
    assert set(run.changed().values()) == {0}
