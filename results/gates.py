"""Rules such as `cycles:2%,peak_ram:0,flash:+1KiB`, and the noise below which nothing is a change. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from tinyhil.errors import UsageError
from tinyhil.results.metrics import Metric, metric
from tinyhil.results.quantities import parse_size
from tinyhil.results.record import Measurement


@dataclass(frozen=True)
class Rule:
    """How much a metric may grow: `relative` (0.02 for 2 %) or `absolute` (in the metric's unit)."""

    metric: str
    relative: float = 0.0
    absolute: float = 0.0

    def allowed(self, base: float) -> float:
        """The growth allowed from `base`, in the metric's unit."""
        return self.absolute + self.relative * base

    def __str__(self) -> str:
        return f"{self.metric}:{f'{self.relative:.4%}' if self.relative else f'+{self.absolute:g}'}"


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Rules from `metric:limit,…`; a limit is `2%`, `0`, `+1KiB` (sizes) or `+1000` (counts).

    `cycles` means measured cycles on hardware and estimated ones on an emulator, each compared only
    with its own kind. UsageError names the part that is wrong.
    """
    rules: dict[str, Rule] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, limit = (piece.strip() for piece in part.partition(":"))
        if not colon or not limit:
            raise UsageError(f"gate {part!r} has no limit: write for example '{name or 'cycles'}:2%'")
        if name in rules:
            raise UsageError(f"gate {name!r} is given twice in {text!r}")
        rules[name] = _rule(metric(name), limit, part)
    if not rules:
        raise UsageError(f"gate {text!r} names no metric: write for example 'cycles:2%,peak_ram:0'")
    return tuple(rules.values())


def _rule(of: Metric, limit: str, part: str) -> Rule:
    amount = limit.removeprefix("+").strip()
    try:
        if amount.endswith("%"):
            rule = Rule(of.name, relative=float(amount[:-1]) / 100)
        else:
            rule = Rule(of.name, absolute=parse_size(amount) if of.unit == "B" else float(amount))
    except (ValueError, UsageError) as error:
        example = "+1KiB" if of.unit == "B" else "+1000"
        raise UsageError(f"gate {part!r}: the limit is a percentage like 2% or like {example}") from error
    if not (math.isfinite(rule.relative + rule.absolute) and rule.relative >= 0 and rule.absolute >= 0):
        raise UsageError(f"gate {part!r}: the limit says how much it may grow, so it is not negative")
    return rule


def noise_floor(head: Measurement, base: Measurement, runs: Iterable[Measurement] = ()) -> float:
    """How far apart two medians of the same program may lie by chance, in the unit of the samples.

    The larger of two figures: three standard errors of the difference of the medians, from the
    samples of both records (robust, by the median absolute deviation); and the spread of the medians
    of A-A runs, which are records in `runs` of one build, in which only chance can differ.
    """
    within = 3 * math.hypot(_standard_error(head.samples), _standard_error(base.samples))
    medians: dict[str, list[float]] = {}
    for run in (base, *runs):
        build = run.provenance.get("build_id", "")
        if build and run.samples and _subject(run) == _subject(base):
            medians.setdefault(build, []).append(median(run.samples))
    between = max((max(values) - min(values) for values in medians.values()), default=0.0)
    return max(within, between)


def _subject(record: Measurement) -> tuple[str, str, str, str]:
    return record.model.name, record.engine.name, record.board, record.mode


def _standard_error(samples: Sequence[int]) -> float:
    """Standard error of the median of `samples`, as for normally distributed ones."""
    if len(samples) < 3:
        return 0.0
    middle = median(samples)
    deviation = 1.4826 * median(abs(sample - middle) for sample in samples)
    return 1.2533 * deviation / math.sqrt(len(samples))
