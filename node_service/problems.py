"""What is wrong with the node right now, for `/v0/status`."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; `code` is stable, `at` is when it began."""

    code: str
    message: str
    at: datetime


@dataclass
class Problems:
    """The present problems, one for each code."""

    _by_code: dict[str, Problem] = field(default_factory=dict)

    def raise_(self, code: str, message: str) -> bool:
        """Note a problem; return whether it is new or reads differently now."""
        known = self._by_code.get(code)
        if known is not None and known.message == message:
            return False
        at = known.at if known is not None else datetime.now(UTC)
        self._by_code[code] = Problem(code, message, at)
        return True

    def clear(self, *codes: str) -> None:
        """Forget problems that are over."""
        for code in codes:
            self._by_code.pop(code, None)

    def report(self, *, but: Collection[str] = ()) -> list[dict[str, str]]:
        """Return the problems as `/v0/status` and heartbeats have them; `but`: not these codes."""
        return [
            {"code": problem.code, "message": problem.message, "at": problem.at.isoformat()}
            for problem in self._by_code.values()
            if problem.code not in but
        ]
