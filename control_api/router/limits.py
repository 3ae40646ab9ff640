"""What a key and its tokens may use in a minute: requests and tokens, counted by this process alone."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from control_api.router.auth import Caller
from control_api.router.errors import RateLimited

MINUTE_S = 60.0


@dataclass(slots=True)
class Bucket:
    """Fills up evenly to its limit in a minute. Its level may go below zero, for tokens are known only afterwards."""

    limit: int
    level: float
    at: float

    def fill(self, now: float) -> None:
        """Bring the level up to date."""
        self.level = min(float(self.limit), self.level + (now - self.at) * self.limit / MINUTE_S)
        self.at = now

    def wait_s(self, needed: float) -> float:
        """Return in how many seconds the level is as high as needed."""
        return max(0.0, (needed - self.level) * MINUTE_S / self.limit)

    def headers(self, what: str) -> bytes:
        """Return the level as OpenAI tells it."""
        reset_s = self.wait_s(self.limit)
        limit, left = (
            f"x-ratelimit-limit-{what}: {self.limit}\r\n",
            f"x-ratelimit-remaining-{what}: {max(0, int(self.level))}\r\n",
        )
        return f"{limit}{left}x-ratelimit-reset-{what}: {reset_s:.3f}s\r\n".encode()


class Limits:
    """The buckets of all keys that have limits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def admit(self, caller: Caller) -> bytes:
        """Count a request; return what the client is told of its limits.

        Raises ``RateLimited``, with the same headers, if the caller has used up its requests or its tokens.
        """
        if caller.requests_per_minute is None and caller.tokens_per_minute is None:
            return b""
        requests = self._bucket(caller.bucket, "requests", caller.requests_per_minute)
        tokens = self._bucket(caller.bucket, "tokens", caller.tokens_per_minute)
        for what, bucket in (("requests", requests), ("tokens", tokens)):
            if bucket and bucket.level < 1:
                message = f"This key may use {bucket.limit} {what} per minute."
                raise RateLimited(message, retry_after_s=bucket.wait_s(1), told=_told(requests, tokens))
        if requests:
            requests.level -= 1
        return _told(requests, tokens)

    def used(self, caller: Caller, tokens: int) -> None:
        """Count the tokens of a request that is over."""
        if bucket := self._bucket(caller.bucket, "tokens", caller.tokens_per_minute):
            bucket.level -= tokens

    def _bucket(self, whose: str, what: str, limit: int | None) -> Bucket | None:
        if limit is None:
            return None
        now = self._clock()
        bucket = self._buckets.get((whose, what))
        if bucket is None or bucket.limit != limit:
            bucket = self._buckets[whose, what] = Bucket(limit, float(limit), now)
        bucket.fill(now)
        return bucket


def _told(requests: Bucket | None, tokens: Bucket | None) -> bytes:
    return (requests.headers("requests") if requests else b"") + (tokens.headers("tokens") if tokens else b"")
