"""Attempts to log in: how many somebody may make, and how few passwords are hashed at a time.

Everything is counted in memory, by each process of the control API for itself.
"""

import asyncio
import heapq
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio.to_thread

from control_api.errors import TooMany
from control_api.kit.secretbox import password_matches

# Of one pair; each further one waits twice as long as the one before.
FREE_ATTEMPTS = 10
FIRST_WAIT_S = 30.0
LONGEST_WAIT_S = 300.0
FORGET_AFTER_S = 900.0
REMEMBERED = 10_000
# Of all pairs together: attempts under way, and those that hash, which take 64 MiB and most of a tenth of a second each.
UNDER_WAY = 1000
HASHES_AT_ONCE = 2
HASHES_WAITING = 32

# Verified once, to learn how long a password takes.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def too_many(wait_s: float) -> TooMany:
    """Return the error that says when to try again."""
    seconds = max(1, math.ceil(wait_s))
    return TooMany(
        f"There were too many attempts. Try again in {seconds} s.",
        code="too_many_attempts",
        details={"retry_after_s": seconds},
        headers={"retry-after": str(seconds)},
    )


@dataclass(slots=True)
class _Failures:
    """What one pair did: attempts that failed or are under way, and until when it has to wait."""

    count: int = 0
    under_way: int = 0
    waits_until: float = 0.0
    last: float = 0.0


class Attempts:
    """Counts failures by pair: a name and an address, or a name and a browser that has logged in before.

    An attempt counts as failed from its beginning, so that many at once are many. Nothing is counted for a name alone: whoever
    guesses at a name from elsewhere holds nobody up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pairs: dict[Hashable, _Failures] = {}

    def __len__(self) -> int:
        """Return how many pairs are remembered."""
        return len(self._pairs)

    def begin(self, pair: Hashable) -> None:
        """Count an attempt. Raises ``TooMany`` while the pair has to wait; such attempts do not count."""
        now = self._clock()
        found = self._pairs.get(pair)
        if found is None or now - found.last > FORGET_AFTER_S:
            self._make_room(now)
            found = self._pairs[pair] = _Failures()
        if found.waits_until > now:
            raise too_many(found.waits_until - now)
        if found.under_way and found.count >= FREE_ATTEMPTS:
            raise too_many(_wait_s(found.count))
        found.count, found.under_way, found.last = found.count + 1, found.under_way + 1, now

    def failed(self, pair: Hashable) -> None:
        """End an attempt that did not succeed; from here on the pair may have to wait."""
        if found := self._pairs.get(pair):
            found.under_way -= 1
            if found.count >= FREE_ATTEMPTS:
                found.waits_until = self._clock() + _wait_s(found.count)

    def succeeded(self, pair: Hashable) -> None:
        """Forget the failures of a pair."""
        self._pairs.pop(pair, None)

    def not_made(self, pair: Hashable) -> None:
        """Take back an attempt that was refused before the password was looked at."""
        if found := self._pairs.get(pair):
            found.count, found.under_way = found.count - 1, found.under_way - 1

    def _make_room(self, now: float) -> None:
        """Keep the table small: what is over goes, then those with the fewest failures, so that nobody washes theirs out."""
        if len(self._pairs) < REMEMBERED:
            return
        self._pairs = {pair: failures for pair, failures in self._pairs.items() if now - failures.last <= FORGET_AFTER_S}
        if len(self._pairs) >= REMEMBERED:
            worst = heapq.nlargest(REMEMBERED // 2, self._pairs.items(), key=lambda item: (item[1].count, item[1].last))
            self._pairs = dict(worst)


def _wait_s(failures: int) -> float:
    return float(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failures - FREE_ATTEMPTS, 16)))


class _Lane:
    """Runs a few things at a time and lets a few more wait."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._turn = asyncio.Semaphore(at_once)
        self._places = at_once + waiting

    def check_room(self) -> None:
        """Raise ``TooMany`` if too many wait already."""
        if not self._places:
            raise too_many(1)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn. Raises ``TooMany`` if too many wait already."""
        self.check_room()
        self._places -= 1
        try:
            async with self._turn:
                yield
        finally:
            self._places += 1


class PasswordDesk:
    """Verifies passwords, a few at a time and outside of any transaction.

    Known browsers have a lane of their own: they get their turn whatever strangers do.
    """

    def __init__(self) -> None:
        self._strangers = _Lane(HASHES_AT_ONCE, HASHES_WAITING)
        self._known = _Lane(1, HASHES_WAITING)
        self._under_way = _Lane(UNDER_WAY, 0)
        self._took_s: deque[float] = deque(maxlen=32)
        self._first = asyncio.Lock()

    @asynccontextmanager
    async def place(self, *, known: bool) -> AsyncIterator[None]:
        """Take a place among the attempts that are under way. Raises ``TooMany`` if there is none."""
        if known:
            yield
        else:
            async with self._under_way.turn():
                yield

    async def matches(self, password: str, hashed: str | None, *, known: bool = False) -> bool:
        """Tell whether a password is the one that was hashed.

        Without a hash, which is to say for a user who does not exist, the answer takes as long as others took lately, and no
        work: names that somebody makes up cost nothing. Raises ``TooMany`` if too many passwords wait to be hashed.
        """
        if hashed is not None:
            return await self._verify(password, hashed, known=known)
        # Names that exist are refused now: so are others, or everybody could tell which do.
        self._strangers.check_room()
        async with self._first:
            if not self._took_s:
                await self._verify(password, _NOBODY, known=False)
                return False
        await asyncio.sleep(random.choice(self._took_s))
        return False

    async def hash(self, make: Callable[[], str]) -> str:
        """Hash a new password in its turn."""
        async with self._strangers.turn():
            return await anyio.to_thread.run_sync(make)

    async def _verify(self, password: str, hashed: str, *, known: bool) -> bool:
        began = time.monotonic()
        async with (self._known if known else self._strangers).turn():
            matches = await anyio.to_thread.run_sync(partial(password_matches, password, hashed))
        self._took_s.append(time.monotonic() - began)
        return matches
