"""What the processes of ``muster up`` are told."""

from pathlib import Path

import pytest

from control_api.kit.secretbox import SecretBox
from control_api.settings import Settings
from control_api.up.environment import environment_of

SECRETS = {
    "MUSTER_ROUTING_KEY": SecretBox.new_key(),
    "MUSTER_CREDENTIALS_KEY": SecretBox.new_key(),
    "MUSTER_BOOTSTRAP_API_KEY": "mk_bootstrap",
    "MUSTER_DASHBOARD_API_KEY": "mk_dashboard",
    "MUSTER_HUB_TOKEN": "hf_x",
    "MUSTER_DATABASE_URL": "postgresql+psycopg://muster:secret@db/muster",
}
OTHERS = {
    "HF_TOKEN": "hf_y",
    "AWS_SECRET_ACCESS_KEY": "aws",
    "MUSTER_API_KEY": "mk_of_the_shell",
    "https_proxy": "http://u:p@proxy",
}
NEEDED = {
    "api": {*SECRETS, "HF_TOKEN", "https_proxy"},
    "router": {"MUSTER_ROUTING_KEY", "MUSTER_DATABASE_URL", "https_proxy"},
    "dashboard": {"MUSTER_DASHBOARD_API_KEY"},
}


@pytest.mark.parametrize("in_files", [False, True])
@pytest.mark.parametrize("role", NEEDED)
def test_a_process_gets_the_secrets_that_it_needs_and_no_other(
    role: str, in_files: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {"MUSTER_ROUTER_PORT": "8123", "MUSTER_LOG_FORMAT": "json", "MUSTER_ROUTER_CORS_ORIGINS": '["http://a"]'}
    given = plain | OTHERS | ({"MUSTER_SECRETS_DIR": str(tmp_path)} if in_files else SECRETS)
    for name, value in SECRETS.items():
        (tmp_path / name.lower()).write_text(value)
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    found = environment_of(role, Settings(state_dir=tmp_path / "state"))

    secrets = {name for name in {*SECRETS, *OTHERS} if name in found}
    assert secrets == NEEDED[role] - (set(SECRETS) if in_files and role == "api" else set())
    assert ("MUSTER_SECRETS_DIR" in found) == (in_files and role == "api")
    assert {name: found[name] for name in secrets} == {name: (SECRETS | OTHERS)[name] for name in secrets}
    assert (found["MUSTER_ROUTER_PORT"], found["MUSTER_LOG_FORMAT"]) == ("8123", "json")
    assert found["MUSTER_STATE_DIR"] == str(tmp_path / "state")
    assert ("MUSTER_ROUTER_CORS_ORIGINS" in found) == (role != "dashboard")


@pytest.mark.parametrize("role", NEEDED)
def test_a_process_reads_the_same_settings_as_muster_up(role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is not told it does not read."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    for name, value in {"ROUTER_HISTORY_CONTENT": "true", "ROUTER_CORS_ORIGINS": '["http://a"]', "API_PORT": "8181"}.items():
        monkeypatch.setenv(f"MUSTER_{name}", value)
    settings = Settings(state_dir=tmp_path)
    told = environment_of(role, settings)
    for name in (*SECRETS, "MUSTER_ROUTER_HISTORY_CONTENT", "MUSTER_ROUTER_CORS_ORIGINS", "MUSTER_API_PORT"):
        monkeypatch.delenv(name)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    read = Settings()
    given = settings.model_dump() | {"state_dir": tmp_path}
    assert {field: given[field] for field in read.model_fields_set} == {
        field: read.model_dump()[field] for field in read.model_fields_set
    }
