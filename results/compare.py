"""Two sets of records against each other, by rules: what got worse, where, and what else changed. Pure.

Only like is compared with like. Where kind, flags, compiler, clock, caches or model differ, the
comparison is refused and the difference shown, unless it was asked for; then it is marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tinyhil.results.align import side_by_side
from tinyhil.results.gates import Rule, noise_floor
from tinyhil.results.metrics import METRICS, Metric
from tinyhil.results.provenance import Difference, differences
from tinyhil.results.record import Measurement

FAILED = ("regressed", "unlike", "lost", "incorrect", "error")


@dataclass(frozen=True)
class LayerChange:
    """A layer that needs more than before; `base` is None where the layer is new."""

    name: str
    base: float | None
    head: float

    @property
    def growth(self) -> float:
        """How much more, in the metric's unit."""
        return self.head - (self.base or 0.0)

    def __str__(self) -> str:
        if self.base is None:
            return f"{self.name} +{self.head:,.0f} (new)"
        share = f" ({self.growth / self.base:+.2%})" if self.base else ""
        return f"{self.name} {self.growth:+,.0f}{share}"


@dataclass(frozen=True)
class Finding:
    """The outcome of one rule for one record.

    ============  ================================================================
    status        meaning
    ============  ================================================================
    ok            within the rule
    improved      smaller than before, by more than the noise
    regressed     larger than the rule allows
    new           no baseline for this record
    gone          the baseline has a record that was not measured now
    absent        neither side has this metric: the rule checked nothing
    lost          the baseline has this metric, the new record has not
    unlike        not comparable; `differences` says why
    incorrect     the output is no longer the reference's
    error         the new record has an error and no numbers
    ============  ================================================================

    `allowed` is the growth that was accepted, `noise` the part of it that is noise. `layers` are
    those that grew, largest first. `unlike` marks numbers of unlike rows that were compared by wish.
    """

    model: str
    engine: str
    board: str
    mode: str
    metric: str
    status: str
    base: float | None = None
    head: float | None = None
    allowed: float = 0.0
    noise: float = 0.0
    layers: tuple[LayerChange, ...] = ()
    differences: tuple[Difference, ...] = ()
    unlike: bool = False
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether this finding fails a test."""
        return self.status in FAILED

    @property
    def subject(self) -> str:
        """`vww1 by tinyengine on stm32f746 (qemu)`."""
        return f"{self.model} by {self.engine} on {self.board} ({self.mode})"

    def message(self) -> str:
        """One line for the outcome, then one each for the layers and the differences."""
        lines = [f"{self.metric or 'comparison'} of {self.subject}: {self._outcome()}"]
        if self.unlike:
            lines.append("  UNLIKE ROWS, compared by request")
        if self.status == "regressed" and self.layers:
            lines.append("  slower layers: " + "; ".join(map(str, self.layers[:5])))
        shown = [d for d in self.differences if d.unlike] if self.status == "unlike" else self.differences
        lines += [f"  differs in {difference}" for difference in shown]
        return "\n".join(lines)

    def _outcome(self) -> str:
        if self.base is None or self.head is None:
            return f"{self.status}. {self.detail}".rstrip(". ")
        growth = round(self.head) - round(self.base)  # of estimates too: what the line shows adds up
        share = f" ({(self.head - self.base) / self.base:+.2%})" if self.base else ""
        text = f"{self.base:,.0f} -> {self.head:,.0f}, {growth:+,.0f}{share}: {self.status};"
        text += f" allowed +{self.allowed:,.0f}"
        text += f" (noise {self.noise:,.0f})" if self.noise else ""
        return f"{text}. {self.detail}" if self.detail else text


def compare(
    head: Sequence[Measurement],
    base: Sequence[Measurement],
    rules: Sequence[Rule],
    *,
    noise: Iterable[Measurement] = (),
    allow_unlike: bool = False,
) -> list[Finding]:
    """The findings of every rule for every record of `head`, and what is missing on either side.

    Records are matched by network, engine and board, of the same mode if there is one. `noise`
    holds A-A runs (see `noise_floor`). Exact metrics are compared exactly.
    """
    runs = list(noise)
    findings: list[Finding] = []
    matched: list[int] = []
    for record in head:
        index = _match(record, base)
        if index is None:
            findings.append(_about(record, "", "new", "There is no baseline to compare with"))
            continue
        matched.append(index)
        findings += _compare_pair(record, base[index], rules, runs, allow_unlike)
    for index, record in enumerate(base):
        if index not in matched and record.error is None:
            findings.append(_about(record, "", "gone", "The baseline has it, it was not measured now"))
    return findings


def _match(record: Measurement, base: Sequence[Measurement]) -> int | None:
    """Index of the newest record of the same subject, the same mode before another one."""
    same = [i for i, b in enumerate(base) if _subject(b) == _subject(record)]
    return max(same, key=lambda i: (base[i].mode == record.mode, i), default=None)


def _subject(record: Measurement) -> tuple[str, str, str]:
    return record.model.name, record.engine.name, record.board


def _compare_pair(
    head: Measurement,
    base: Measurement,
    rules: Sequence[Rule],
    runs: Sequence[Measurement],
    allow_unlike: bool,
) -> list[Finding]:
    changed = differences(head, base)
    if head.error is not None:
        detail = f"{head.error.code}: {head.error.message}"
        return [_about(head, "", "error", detail, changed)]
    if base.error is not None:
        return [_about(head, "", "new", f"The baseline has only an error, {base.error.code}")]
    findings = []
    if base.correct and head.correct and base.correct.bit_exact and not head.correct.bit_exact:
        detail = f"The output was bit-exact; now it differs from {head.correct.reference}"
        findings.append(_about(head, "", "incorrect", detail, changed))
    refused = [d for d in changed if d.unlike and d.what != "timing model"]
    if refused and not allow_unlike:
        detail = "The rows are not alike; --hil-compare-unlike (of `tinyhil compare`: --unlike) compares them"
        return [*findings, _about(head, "", "unlike", detail, changed)]
    return findings + [_apply(rule, head, base, changed, runs, allow_unlike) for rule in rules]


def _apply(
    rule: Rule,
    head: Measurement,
    base: Measurement,
    changed: tuple[Difference, ...],
    runs: Sequence[Measurement],
    allow_unlike: bool,
) -> Finding:
    metric = _meant(rule, head, base)
    new, old = metric.of(head), metric.of(base)
    if new is None or old is None:
        return _without_value(metric, head, old, new, changed)
    unlike = any(d.unlike and (d.what != "timing model" or metric.name == "cycles_est") for d in changed)
    if unlike and not allow_unlike:
        detail = "The estimates come from different timing models"
        return _about(head, metric.name, "unlike", detail, changed)
    noise = noise_floor(head, base, runs) if metric.sampled else 0.0
    allowed = max(rule.allowed(old), noise)
    status = "regressed" if new - old > allowed else "improved" if old - new > noise else "ok"
    grown = metric.name == "peak_ram" and status == "regressed"
    return replace(
        _about(head, metric.name, status, _grown_parts(head, base) if grown else "", changed),
        base=old,
        head=new,
        allowed=allowed,
        noise=noise,
        layers=slower_layers(head, base, metric),
        unlike=unlike,
    )


def _meant(rule: Rule, head: Measurement, base: Measurement) -> Metric:
    """The rule's metric; `cycles` of two emulated records are their estimated cycles."""
    if rule.metric == "cycles" and head.cycles is None and base.cycles is None:
        return METRICS["cycles_est"]
    return METRICS[rule.metric]


def _without_value(
    metric: Metric, head: Measurement, old: float | None, new: float | None, changed: tuple[Difference, ...]
) -> Finding:
    if old is not None:
        detail = f"The baseline has {metric.words}, this record has none"
        return _about(head, metric.name, "lost", detail, changed)
    if new is not None:
        detail = f"The baseline has no {metric.words}"
        return _about(head, metric.name, "new", detail, changed)
    has = [m.name for m in METRICS.values() if m.of(head) is not None]
    detail = f"{head.mode} gives no {metric.words}; it gives {', '.join(has)}"
    return _about(head, metric.name, "absent", detail)


def slower_layers(head: Measurement, base: Measurement, metric: Metric) -> tuple[LayerChange, ...]:
    """Layers that need more of `metric` than those that did their work before, largest growth first."""
    if metric.layer is None:
        return ()
    rows = side_by_side([head.layers, base.layers], metric.layer)
    changes = [
        LayerChange(row.name, row.values[1], row.values[0]) for row in rows if row.values[0] is not None
    ]
    return tuple(sorted((c for c in changes if c.growth > 0), key=lambda c: -c.growth))


def _grown_parts(head: Measurement, base: Measurement) -> str:
    parts = []
    for part in ("static_ram", "arena", "stack"):
        new, old = METRICS[part].of(head), METRICS[part].of(base)
        if new is not None and old is not None and new > old:
            parts.append(f"{METRICS[part].words} {new - old:+,.0f} B")
    return "Grown: " + ", ".join(parts) if parts else ""


def _about(
    record: Measurement,
    metric: str,
    status: str,
    detail: str = "",
    differences: tuple[Difference, ...] = (),
) -> Finding:
    subject = (record.model.name, record.engine.name, record.board, record.mode)
    return Finding(*subject, metric, status, detail=detail, differences=differences)
