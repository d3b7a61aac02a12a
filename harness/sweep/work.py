"""What is left of a sweep, how far it is, and how it ended. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Firm = tuple[str, str]
"""A firmware's id, and the mode in which it runs: what a measurement is a function of."""

T = TypeVar("T")


@dataclass(frozen=True)
class Left(Generic[T]):
    """A batch sorted by what the store knows: to be measured (one item for each firmware), measured,
    failed before (and not to be tried again), the same firmware as another item of the sweep."""

    todo: tuple[T, ...]
    known: tuple[T, ...]
    failed: tuple[T, ...]
    twins: tuple[T, ...]


def left(
    batch: Sequence[tuple[T, Firm]], good: Iterable[Firm], bad: Iterable[Firm], *, retry_failed: bool
) -> Left[T]:
    """Sorts `batch` by the firmware that have a good record, and those that have only failed."""
    good, bad = set(good), set(bad)
    todo: list[T] = []
    known: list[T] = []
    failed: list[T] = []
    twins: list[T] = []
    seen: set[Firm] = set()
    for item, firm in batch:
        if firm in good:
            known.append(item)
        elif firm in bad and not retry_failed:
            failed.append(item)
        elif firm in seen:
            twins.append(item)
        else:
            seen.add(firm)
            todo.append(item)
    return Left(tuple(todo), tuple(known), tuple(failed), tuple(twins))


def batches(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    """`items` in order, `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def eta(done: int, remaining: int, seconds: float) -> float | None:
    """Seconds that `remaining` items will take if as many of them are known as of the `done` ones; None
    if none is done."""
    return seconds * remaining / done if done else None


def clock(seconds: float | None) -> str:
    """`1:02:03`, `2:03`, or `-:--` for None."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def pace(count: int, seconds: float) -> str:
    """`500 at 4.2/s`; "" if there were none."""
    return f"{count} at {count / seconds:.1f}/s" if count and seconds else ""


@dataclass(frozen=True)
class Cause:
    """Why items failed: the first one's words stand for all that have the same code."""

    code: str
    message: str
    items: tuple[str, ...]


def first_causes(failures: Iterable[tuple[str, str, str]]) -> tuple[Cause, ...]:
    """Failures (item, code, message) by code, in the order of their first appearance."""
    found: dict[str, Cause] = {}
    for item, code, message in failures:
        known = found.get(code)
        found[code] = (
            Cause(code, known.message, (*known.items, item)) if known else Cause(code, message, (item,))
        )
    return tuple(found.values())


def exit_code(records_failed: bool, bench_failed: bool) -> int:
    """1 if a network failed, else 10 if only the bench did, else 0."""
    return 1 if records_failed else 10 if bench_failed else 0


def counted(numbers: Mapping[str, int]) -> str:
    """`3 measured, 2 known`: the numbers that are not 0."""
    return ", ".join(f"{number} {word}" for word, number in numbers.items() if number) or "nothing to do"
