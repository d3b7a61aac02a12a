"""What to do when the bench goes wrong: from the mildest step to the harshest, each bounded.

The first cause is what the user gets to see; what was tried and how it went comes behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TypeVar

from tinyhil.errors import BenchError, TinyhilError, WireError
from tinyhil.harness.deadline import Deadline

log = logging.getLogger("tinyhil.bench")

_T = TypeVar("_T")


class Rung(Enum):
    """One step of the ladder. START is the plain attempt before any recovery."""

    START = "start"
    RESYNC = "resync"  # open the port anew and say hello, without a reset
    RESET = "reset"
    REFLASH = "reflash"
    POWER_CYCLE = "power-cycle"


class Hopeless(Exception):
    """Carries an error that no step of the ladder can mend."""

    def __init__(self, error: TinyhilError) -> None:
        super().__init__(str(error))
        self.error = error


class LadderEnded(Exception):
    """Every step was tried in vain. `cause` is the first error, told with all that was tried."""

    def __init__(self, cause: BenchError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def climb(
    attempt: Callable[[Rung, Deadline], _T], rungs: Sequence[Rung], deadline: Deadline
) -> tuple[_T, tuple[str, ...]]:
    """What `attempt` gave, and what went wrong before it did, e.g. ("start: NoAnswer", "reset: good").

    Attempts share the time that is left: each gets at most half of it, the last one all. A BenchError
    leads to the next rung. Raises LadderEnded when all have failed, the first error when time is up,
    and at once whatever is not the bench's fault or Hopeless.
    """
    first: BenchError | None = None
    notes: list[str] = []
    steps = (Rung.START, *rungs)
    for number, rung in enumerate(steps):
        if rung is Rung.RESYNC and not isinstance(first, WireError):
            continue  # the conversation was not what failed
        if deadline.expired:
            break
        last = number == len(steps) - 1
        share = deadline if last else deadline.within(deadline.remaining() / 2)
        try:
            result = attempt(rung, share)
        except Hopeless as end:
            raise end.error from end
        except BenchError as error:
            again = first is not None and str(error) == str(first)
            log.warning("%s: %s: %s", rung.value, error.code, "the same again" if again else error)
            first = first or error
            notes.append(f"{rung.value}: {error.code}")
        else:
            return result, (*notes, f"{rung.value}: good") if notes else ()
    assert first is not None
    tried = ", ".join(notes[1:])
    cause = type(first)(f"{first}" + (f". Tried in vain: {tried}" if tried else ""))
    if deadline.expired:
        raise cause from first
    raise LadderEnded(cause) from first
