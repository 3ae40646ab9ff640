"""Where settings come from."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control_api.cli import app
from control_api.errors import StartupError
from control_api.keys import load_keys, load_routing_key
from control_api.kit.secretbox import SecretBox
from control_api.settings import Settings

POSTGRES = "postgresql+psycopg://muster@/muster"


def test_a_secret_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "muster_routing_key").write_text(SecretBox.new_key() + "\n")
    (tmp_path / "muster_database_url").write_text(POSTGRES)
    monkeypatch.setenv("MUSTER_SECRETS_DIR", str(tmp_path))

    settings = Settings()

    assert settings.database_url == POSTGRES
    assert load_routing_key(settings).name == "routing"


def test_the_environment_goes_before_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "muster_api_port").write_text("1")
    monkeypatch.setenv("MUSTER_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("MUSTER_API_PORT", "2")

    assert Settings().api_port == 2


def test_missing_secrets_stop_the_process(tmp_path: Path) -> None:
    """Otherwise it would run without them, on a store of its own."""
    done = CliRunner().invoke(app, ["serve", "api"], env={"MUSTER_SECRETS_DIR": str(tmp_path / "none")})

    assert done.exit_code == 2
    assert "is no directory that can be read" in done.output


def test_only_a_router_runs_without_the_key_of_credentials() -> None:
    settings = Settings(database_url=POSTGRES, routing_key=SecretBox.new_key())

    assert load_routing_key(settings).name == "routing"
    with pytest.raises(StartupError, match="MUSTER_CREDENTIALS_KEY must be given"):
        load_keys(settings)


@pytest.mark.parametrize("name", ["routing", "credentials"])
def test_a_key_that_is_given_counts_or_the_process_does_not_start(tmp_path: Path, name: str) -> None:
    given = SecretBox.new_key()
    settings = Settings(state_dir=tmp_path, **{f"{name}_key": given})
    first, kept = load_keys(settings), json.loads((tmp_path / "keys.json").read_text())

    assert kept[name] == given, "the first start keeps it beside the other, which it makes"
    assert getattr(load_keys(settings), name).decrypt(getattr(first, name).encrypt("x")) == "x"
    assert getattr(load_keys(Settings(state_dir=tmp_path)), name).decrypt(getattr(first, name).encrypt("x")) == "x"

    with pytest.raises(StartupError) as refused:
        load_keys(Settings(state_dir=tmp_path, **{f"{name}_key": SecretBox.new_key()}))
    assert f"MUSTER_{name.upper()}_KEY" in refused.value.message
    assert str(tmp_path / "keys.json") in refused.value.message


def test_a_given_key_that_is_none_makes_no_keys(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="credentials key is not 32"):
        load_keys(Settings(state_dir=tmp_path, credentials_key="x"))
    assert not (tmp_path / "keys.json").exists()
