"""The models that Muster offers by name, read from ``supported_models.json``."""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from control_api.catalogue.gguf import BadHeader
from control_api.catalogue.memory import memory_of, shape_of
from control_api.catalogue.schemas import MemoryNeed, SupportedModel
from control_api.errors import StartupError

DEV_TAG = "dev"
# Context and slots of a model for which nobody wished others: long enough for a chat, and four of them fit beside the weights.
CONTEXT = 8192
SLOTS = 4


def memory_of_entry(entry: SupportedModel) -> MemoryNeed:
    """Return what an entry needs with the usual context and slots, computed from its header. Raises ``BadHeader``."""
    shape = shape_of(entry.header or {})
    context = min(CONTEXT, shape.context_length or CONTEXT)
    return memory_of(shape, entry.size_bytes, context=context, slots=SLOTS)


class SupportedModels:
    """The entries of ``supported_models.json``, in the file's order."""

    def __init__(self, entries: list[SupportedModel]) -> None:
        self._by_id = {entry.id: entry for entry in entries}
        self._memory = {entry.id: memory_of_entry(entry) for entry in entries}

    @classmethod
    def load(cls, path: Path) -> "SupportedModels":
        """Read the file. Raises ``StartupError`` naming the file and what is wrong with it."""
        try:
            entries = TypeAdapter(list[SupportedModel]).validate_python(json.loads(path.read_text()))
        except (OSError, ValueError, ValidationError) as error:
            raise StartupError(f"{path} cannot be used: {error}", code="bad_supported_models") from error
        ids = [entry.id for entry in entries]
        if doubled := {i for i in ids if ids.count(i) > 1}:
            raise StartupError(f"{path} names {', '.join(sorted(doubled))} twice.", code="bad_supported_models")
        try:
            return cls(entries)
        except BadHeader as error:
            raise StartupError(f"{path} cannot be used: a header: {error}", code="bad_supported_models") from error

    def get(self, model_id: str) -> SupportedModel | None:
        """Return the entry with this id."""
        return self._by_id.get(model_id)

    def memory(self, model_id: str) -> MemoryNeed:
        """Return what an entry needs with the usual context and slots."""
        return self._memory[model_id]

    @property
    def all(self) -> list[SupportedModel]:
        """All entries."""
        return list(self._by_id.values())

    @property
    def official_ids(self) -> frozenset[str]:
        """The ids of the fixed list: all entries but those for development."""
        return frozenset(entry.id for entry in self._by_id.values() if DEV_TAG not in entry.tags)
