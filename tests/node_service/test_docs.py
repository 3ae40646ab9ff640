"""The reference names every setting, and no other."""

import re
from pathlib import Path

from node_service.settings import Settings

_PAGE = Path(__file__).parents[2] / "docs/reference/node-configuration.md"


def test_every_setting_is_documented() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", _PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert documented == list(Settings.model_fields)
