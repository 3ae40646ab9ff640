"""Building blocks of request and response schemas: base classes, constrained strings, paged lists."""

from datetime import UTC, datetime
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, StringConstraints, model_validator

NameStr = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
TagStr = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9:._/ -]*$")]
IdStr = Annotated[str, StringConstraints(min_length=1, max_length=36, pattern=r"^[A-Za-z0-9-]+$")]
# Names with a slash between them, as it stands in paths of URLs: no name is empty, ends in a dot, or has two of them in a row.
MODEL_ID = r"[A-Za-z0-9](?:\.?[A-Za-z0-9_:+-])*(?:/[A-Za-z0-9_](?:\.?[A-Za-z0-9_:+-])*)*"
MODEL_ID_CHARS = 128
ModelIdStr = Annotated[str, StringConstraints(max_length=MODEL_ID_CHARS, pattern=f"^{MODEL_ID}$")]
Sha256Str = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
CommitStr = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40,64}$")]
# What an integer column takes, less what is added to it.
MAX_COUNTER = (1 << 31) - 2
Counter = Annotated[int, Ge(0), Le(MAX_COUNTER)]
# What nodes say of a counter of ours is taken up to here, so that there is room to go on counting.
BELIEVED_COUNTER = 1 << 30
# A thousand of them together still fit a big integer column.
MAX_SIZE_BYTES = 1 << 50
SizeBytes = Annotated[int, Ge(0), Le(MAX_SIZE_BYTES)]
FileNameStr = Annotated[str, StringConstraints(max_length=255, pattern=r"^[A-Za-z0-9_][A-Za-z0-9 ._+@()=-]*$")]
LineStr = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be between the years 1 and 9999 in UTC") from None


# More than any request has; each that is not known would be an error of its own in the answer.
MAX_FIELDS = 100

# A time that a caller gives. At the calendar's edges another time zone's can be outside of it.
Instant = Annotated[AwareDatetime, AfterValidator(_utc)]


class Wire(BaseModel):
    """Base of requests: unknown fields are refused, so that a typo is not silently ignored."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, sent: Any) -> Any:
        if isinstance(sent, dict) and len(sent) > MAX_FIELDS:
            raise ValueError(f"has {len(sent)} fields; at most {MAX_FIELDS} are read")
        return sent


class Out(BaseModel):
    """Base of responses, built from table rows or plain values."""

    model_config = ConfigDict(from_attributes=True)


class Page[Item](Out):
    """One page of a list; ``next_cursor`` is null on the last."""

    items: list[Item]
    next_cursor: str | None = None
