"""A deadline is one moment; steps inside it can only be shorter."""

import pytest

from tinyhil.harness.deadline import Deadline


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_runs_out_and_stays_out() -> None:
    clock = Clock()
    deadline = Deadline.after(5, clock)
    assert deadline.remaining() == 5
    clock.now += 4
    assert not deadline.expired
    clock.now += 2
    assert deadline.expired
    assert deadline.remaining() == 0


def test_a_step_never_outlives_the_job() -> None:
    clock = Clock()
    job = Deadline.after(5, clock)
    assert job.within(2).remaining() == 2
    assert job.within(50).remaining() == 5


def test_a_deadline_in_the_past_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="future"):
        Deadline.after(0)
