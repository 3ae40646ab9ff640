"""Writes ``docs/reference/settings.md`` from the settings themselves."""

from pathlib import Path

from control_api.settings import Settings

TARGET = Path(__file__).parents[1] / "docs/reference/settings.md"
HEAD = """# Settings of the control plane

Every process reads its settings from the environment once, at start. `muster doctor` says what is wrong with them.
A setting may also be a file in `MUSTER_SECRETS_DIR`, e.g. `muster_routing_key`, so that secrets stay out of the environment.
This page is written by `make reference`.

| variable | default | |
|---|---|---|
"""
SHOWN = {
    "state_dir": "~/.local/state/muster",
    "cache_dir": "~/.cache/muster",
    "project_dir": "the checkout",
    "node_networks": "none",
    "router_cors_origins": "none",
    "run_dir": "on tmpfs",
}


def rows() -> list[str]:
    """Return one row for each setting."""
    found = []
    for name, field in Settings.model_fields.items():
        default = SHOWN.get(name) or ("unset" if field.default in (None, "") else field.default)
        found.append(f"| `MUSTER_{name.upper()}` | `{default}` | {field.description} |")
    return found


if __name__ == "__main__":
    TARGET.write_text(HEAD + "\n".join(rows()) + "\n")
