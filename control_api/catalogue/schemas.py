"""What callers may send about models."""

from typing import Annotated, Literal, Self

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import StringConstraints, model_validator

from control_api.catalogue.options import EngineOptions
from control_api.kit.wire import ModelIdStr, TagStr

Capability = Literal["chat", "completions", "embeddings"]
SourceStr = Annotated[str, StringConstraints(min_length=3, max_length=2048, pattern=r"^[^\x00-\x20\x7f]+$")]
RevisionStr = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9._/-]+$")]
NodeTags = Annotated[list[TagStr], MaxLen(32)]


class RegisterModelRequest(EngineOptions):
    """``POST /v0/models/register``: a catalogue id, or a hub URL or ``repo[:file]`` with the id that it shall have."""

    model: ModelIdStr | None = None
    source: SourceStr | None = None
    id: ModelIdStr | None = None
    revision: RevisionStr | None = None
    capabilities: Annotated[list[Capability], MinLen(1)] | None = None
    context: Annotated[int, Ge(256), Le(1 << 24)] | None = None
    slots: Annotated[int, Ge(1), Le(256)] | None = None
    needs: NodeTags = []

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.model is None) == (self.source is None):
            raise ValueError("give either model (an id of the catalogue) or source (a hub URL or repo[:file])")
        if self.model is not None and (self.id or self.revision or self.capabilities):
            raise ValueError("id, revision and capabilities go with source; a catalogue entry has its own")
        return self


class ModelPatch(EngineOptions):
    """``PATCH /v0/models/{id}``: what is not named stays. ``needs``: the tags that a node must have to hold the model."""

    needs: NodeTags | None = None
