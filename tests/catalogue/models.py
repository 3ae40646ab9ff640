"""Entries of the catalogue that tests use."""

from control_api.catalogue.schemas import SupportedModel
from control_api.catalogue.supported import SupportedModels
from control_api.settings import Settings


def entry(model_id: str) -> SupportedModel:
    """Return an entry of the catalogue."""
    found = SupportedModels.load(Settings().project_dir / "supported_models.json").get(model_id)
    assert found
    return found


SMOLLM = entry("smollm2:135m")
