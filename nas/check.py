"""How good the search's predictions are: networks measured to learn from, others to be judged by.

    arena    planned for typical weights, and by the firmware, in bytes
    RAM      arena, static data and stack, predicted and touched
    flash    predicted from learned code sizes, and linked
    time     by the engine's plan, beside layer features, MACs + elements, and MACs alone

The judged networks have widths and resolutions that no learned one has.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinyhil.harness.boards import Board
from tinyhil.nas.arch import Arch
from tinyhil.nas.codesize import CodeSizes, learn
from tinyhil.nas.latency import Report, choose, evaluate, evaluate_baselines, fit
from tinyhil.nas.meter import Measured, Meter
from tinyhil.nas.planlatency import PlanModel, evaluate_plan, fit_plan
from tinyhil.nas.planning import EngineNeeds
from tinyhil.nas.space import Family, grid

FAMILY = Family(
    stem=16, first=8, stages=((16, 2, 3), (24, 2, 3), (48, 1, 3), (64, 1, 1)), classes=10, channels=1
)
LEARNED = grid(FAMILY, (0.5, 0.75, 1.0), (16, 24, 32))
JUDGED = grid(FAMILY, (0.6, 0.9), (20, 28))
POOL = 200


@dataclass(frozen=True)
class Miss:
    """One judged network: predicted minus measured bytes."""

    arch: Arch
    arena: int
    ram: int
    flash: int
    measured: Measured


def networks(learned: int, judged: int, seed: int) -> tuple[list[Arch], list[Arch]]:
    """The most telling networks of a pool to learn from, and others drawn to judge by."""
    source = random.Random(f"check {seed}")
    pool = list(dict.fromkeys(source.choice(LEARNED).sample(source) for _ in range(POOL)))
    others = list(dict.fromkeys(source.choice(JUDGED).sample(source) for _ in range(POOL)))
    return choose(pool, learned), others[:judged]


def misses(needs: EngineNeeds, sizes: CodeSizes | None, judged: Sequence[Measured]) -> list[Miss]:
    """The misses of each judged network; without `sizes` those of the plan alone."""
    found = []
    for one in judged:
        plan = needs.plan(one.sample.arch)
        ram, flash = sizes.needs(plan) if sizes else (plan.arena, plan.flash)
        found.append(Miss(one.sample.arch, plan.arena - one.planned, ram - one.ram, flash - one.flash, one))
    return found


def judge_time(
    model: PlanModel, learned: Sequence[Measured], judged: Sequence[Measured], needs: EngineNeeds
) -> tuple[Report, ...]:
    """The model's report, and those of the models that it must beat, on the same networks."""
    plain, checks = [one.sample for one in learned], [one.sample for one in judged]
    features = fit(plain, model.engine, model.board, model.unit)
    by_plan = evaluate_plan(model, judged, needs.plan)
    return by_plan, evaluate(features, checks), *evaluate_baselines(plain, checks)


def check(
    board: Board, engine: str, meter: Meter, learned: int, judged: int, seed: int, say: Callable[[str], None],
    source: PlanModel | None = None,
) -> PlanModel:  # fmt: skip
    """Measures, prints the tables, and gives the model; with `source`, one moved from that board."""
    known, others = (meter(part) for part in networks(learned, judged, seed))
    needs = EngineNeeds(board)
    built = [(needs.plan(one.sample.arch), one.built, one.flash) for one in known if one.built is not None]
    sizes = learn([b[0] for b in built], [b[1] for b in built], [b[2] for b in built]) if built else None
    rows = misses(needs, sizes, others)
    say(f"{board.name}: {len(known)} networks learned from, {len(others)} others judged")
    say("  predicted minus measured: arena, RAM, flash in bytes")
    for row in rows:
        say(f"  {row.arena:+6} {row.ram:+6} {row.flash:+7}  {row.measured.flash:8,} B flash  {row.arch}")
    exact, near = sum(row.arena == 0 for row in rows), sum(abs(row.flash) <= 1024 for row in rows)
    say(f"  arena to the byte: {exact} of {len(rows)}; flash within 1 KiB: {near} of {len(rows)}")
    model = fit_plan(known, needs.plan, engine, board, source=source)
    layers = sum(len(one.layers) for one in known)
    say(f"  run time in {model.unit}, from {len(known)} networks with {layers} layers:")
    for report in judge_time(model, known, others, needs):
        say(f"  {describe(report)}")
    return model


def describe(report: Report) -> str:
    """A report as a line of a table."""
    covered = "" if report.covered is None else f", interval held {report.covered:.0%}"
    return (
        f"{report.name:16} error {report.mape:6.2%}, worst {report.worst:6.2%}, "
        f"within 5 % {report.within_5:4.0%}, within 10 % {report.within_10:4.0%}, "
        f"Spearman {report.spearman:.4f}{covered}"
    )
