"""One point in time that is passed down through every wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock (seconds) after which nothing may wait any more."""

    at: float
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """The moment `seconds` from now; ValueError if not positive."""
        if seconds <= 0:
            raise ValueError(f"a deadline must lie in the future, not {seconds} s away")
        return cls(clock() + seconds, clock)

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - self.clock())

    @property
    def expired(self) -> bool:
        """True once nothing is left."""
        return self.remaining() == 0.0

    def within(self, seconds: float) -> Deadline:
        """The earlier of this deadline and `seconds` from now, for one step of a longer job."""
        return Deadline(min(self.at, self.clock() + seconds), self.clock)
