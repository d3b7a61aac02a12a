"""The recovery ladder: mildest step first, each bounded, the first cause told."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tinyhil.errors import BadFrame, BenchError, HardFault, NoAnswer, WrongBoard
from tinyhil.harness.bench.recovery import Hopeless, LadderEnded, Rung, climb
from tinyhil.harness.deadline import Deadline

ALL = (Rung.RESYNC, Rung.RESET, Rung.REFLASH, Rung.POWER_CYCLE)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Script:
    """Attempts that fail as told, each taking some seconds of a fake clock."""

    def __init__(self, *outcomes: Exception | str, seconds: float = 1.0) -> None:
        self.outcomes, self.clock, self.seconds = list(outcomes), Clock(), seconds
        self.rungs: list[Rung] = []
        self.shares: list[float] = []

    def __call__(self, rung: Rung, share: Deadline) -> str:
        self.rungs.append(rung)
        self.shares.append(share.remaining())
        self.clock.now += self.seconds
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def climb(self, seconds: float = 100.0) -> tuple[str, tuple[str, ...]]:
        return climb(self, ALL, Deadline(seconds, self.clock))


def test_what_works_at_once_leaves_no_trace() -> None:
    assert Script("good").climb() == ("good", ())


def test_each_step_is_harsher_than_the_one_before() -> None:
    script = Script(NoAnswer("a"), BadFrame("b"), NoAnswer("c"), "good")
    assert script.climb() == (
        "good",
        ("start: NoAnswer", "resync: BadFrame", "reset: NoAnswer", "reflash: good"),
    )
    assert script.rungs == [Rung.START, Rung.RESYNC, Rung.RESET, Rung.REFLASH]


def test_saying_hello_again_does_not_mend_flash() -> None:
    script = Script(BenchError("flash"), "good")
    script.climb()
    assert script.rungs == [Rung.START, Rung.RESET]


def test_the_first_cause_is_told_and_not_the_last() -> None:
    script = Script(BadFrame("torn cable"), *(NoAnswer("silence"),) * 4)
    with pytest.raises(LadderEnded) as end:
        script.climb()
    assert isinstance(end.value.cause, BadFrame)
    assert str(end.value.cause) == (
        "torn cable. Tried in vain: resync: NoAnswer, reset: NoAnswer, reflash: NoAnswer, "
        "power-cycle: NoAnswer"
    )


def test_the_steps_share_the_time_and_the_last_gets_all_that_is_left() -> None:
    script = Script(*(NoAnswer("silence"),) * 5, seconds=4)
    with pytest.raises(LadderEnded):
        script.climb(100)
    assert script.shares == [50, 48, 46, 44, 84]


def test_no_step_begins_after_the_deadline() -> None:
    script = Script(*(NoAnswer("silence"),) * 5, seconds=60)
    with pytest.raises(NoAnswer, match="silence"):
        script.climb(100)
    assert script.rungs == [Rung.START, Rung.RESYNC]


@pytest.mark.parametrize("error", [HardFault("crash"), KeyError("bug")])
def test_what_is_not_the_benchs_fault_ends_the_climb(error: Exception) -> None:
    with pytest.raises(type(error)):
        Script(error).climb()


def test_so_does_what_nothing_can_mend() -> None:
    script = Script(NoAnswer("silence"), Hopeless(WrongBoard("an F767")))
    with pytest.raises(WrongBoard, match="F767"):
        script.climb()
