"""How good the search's predictions are: networks measured to learn from, others to be judged by.

    RAM      the arena, planned for typical weights and for the network's own, and what its firmware touched
    stack    with static data, predicted and touched
    flash    predicted from learned code sizes, for typical weights and for its own, and linked
    time     by the engine's plan, beside layer features, MACs + elements, and MACs alone

The judged networks have widths and resolutions that no learned one has, and other mixes of kernels.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Options
from tinyhil.nas.arch import Arch
from tinyhil.nas.chainstore import ChainStore, chains_folder
from tinyhil.nas.choosing import choose
from tinyhil.nas.codesize import CodeSizes
from tinyhil.nas.latency import Report, evaluate, evaluate_baselines, fit
from tinyhil.nas.meter import Measured, Meter, learn_from
from tinyhil.nas.planlatency import PlanModel, describe_by, evaluate_plan, fit_plan
from tinyhil.nas.planning import EngineNeeds
from tinyhil.nas.prices import Conditions
from tinyhil.nas.space import Family, grid

FAMILY = Family(
    stem=16, first=8, stages=((16, 2, 3), (24, 2, 3), (48, 1, 3), (64, 1, 1)), classes=10, channels=1
)
LEARNED = grid(FAMILY, (0.5, 0.75, 1.0), (16, 24, 32))
JUDGED = grid(FAMILY, (0.6, 0.9), (20, 28))
POOL = 200
COUNTS, SEEDS = (6, 12, 24, 48), 6  # of the learning curve


@dataclass(frozen=True)
class Miss:
    """One judged network: predicted minus measured bytes of arena, stack and flash. `own` are those of arena
    and flash from the plan for the very weights, None where that is not known."""

    arena: int
    stack: int
    flash: int
    own: tuple[int, int] | None
    measured: Measured


def drawn(seed: int) -> tuple[list[Arch], list[Arch]]:
    """The pools that the networks to learn from, and those to judge by, are taken from."""
    source = random.Random(f"check {seed}")
    pools = [[source.choice(spaces).sample(source) for _ in range(POOL)] for spaces in (LEARNED, JUDGED)]
    return list(dict.fromkeys(pools[0])), list(dict.fromkeys(pools[1]))


def misses(needs: EngineNeeds, sizes: CodeSizes | None, judged: Sequence[Measured]) -> list[Miss]:
    """The misses of each judged network; without `sizes` those of the plan alone."""
    found = []
    for one in judged:
        plan = needs.plan(one.sample.arch)
        ram, flash = sizes.needs(plan) if sizes else (plan.arena, plan.flash)
        stack = ram - plan.arena - (one.ram - one.planned)
        own = None
        if sizes and one.plan:
            own = one.plan.arena - one.planned, sizes.flash(one.plan) - one.flash
        found.append(Miss(plan.arena - one.planned, stack, flash - one.flash, own, one))
    return found


def judge_time(
    model: PlanModel, learned: Sequence[Measured], judged: Sequence[Measured], needs: EngineNeeds
) -> tuple[Report, ...]:
    """The model's report, with the plans for the judged networks' own weights where they are known, and those
    of the models that it must beat, on the same networks."""
    plain, checks = [one.sample for one in learned], [one.sample for one in judged]
    features = fit(plain, model.engine, model.board, model.unit)
    own = {one.sample.arch: one.plan for one in judged if one.plan is not None}
    reports = [evaluate_plan(model, judged, needs.plan)]
    if len(own) == len(judged):
        reports.append(evaluate_plan(model, judged, own.__getitem__, "own weights"))
    return *reports, evaluate(features, checks), *evaluate_baselines(plain, checks)


def check(
    board: Board, engine: str, meter: Meter, learned: int, judged: int, seed: int, say: Callable[[str], None],
    source: PlanModel | None = None,
) -> PlanModel:  # fmt: skip
    """Measures, prints the tables, and gives the model; with `source`, one moved from that board."""
    needs = EngineNeeds(board, store=ChainStore(chains_folder(), Conditions(board.core, Options())))
    pool, others = drawn(seed)
    known = meter(choose(pool, learned, describe_by(needs.plan, board)))
    checks = meter(others[:judged])
    sizes = learn_from(known, needs.plan)
    rows = misses(needs, sizes, checks)
    say(f"{board.name}: {len(known)} networks learned from, {len(checks)} others judged")
    say("  predicted minus measured bytes: arena and flash for its own weights, for typical ones, stack")
    for row in rows:
        own = f"{'':14}" if row.own is None else f"{row.own[0]:+6} {row.own[1]:+7}"
        figures = f"{own}   {row.arena:+6} {row.flash:+7}   {row.stack:+5}"
        say(f"  {figures}  {row.measured.flash:8,} B flash  {row.measured.sample.arch}")
    own_rows = [row.own for row in rows if row.own is not None]
    for whose, pairs in (("own", own_rows), ("typical", [(row.arena, row.flash) for row in rows])):
        exact, near = sum(arena == 0 for arena, _ in pairs), sum(abs(flash) <= 1024 for _, flash in pairs)
        say(f"  {whose} weights: arena to the byte {exact} of {len(rows)}, flash within 1 KiB {near}")
    model = fit_plan(known, needs.plan, engine, board, source=source)
    layers = sum(len(one.layers) for one in known)
    say(f"  run time in {model.unit}, from {len(known)} networks with {layers} layers:")
    for report in judge_time(model, known, checks, needs):
        say(f"  {describe(report)}")
    return model


def curve(
    board: Board, engine: str, meter: Meter, measured: int, judged: int, seed: int, say: Callable[[str], None]
) -> None:
    """Measures `measured` networks and prints how good the model is when it learned from few of them: from
    the most telling ones, and from any. Each seed draws three quarters of the measured ones to take from."""
    needs = EngineNeeds(board, store=ChainStore(chains_folder(), Conditions(board.core, Options())))
    pool, others = drawn(seed)
    known = {one.sample.arch: one for one in meter(pool[:measured])}
    checks = meter(others[:judged])
    say(f"{board.name}: mean error (its range over {SEEDS} seeds) and worst one on {len(checks)} others")
    errors: dict[tuple[int, str], list[Report]] = defaultdict(list)
    for number in range(SEEDS):
        drawn_from = random.Random(f"curve {number}").sample(sorted(known, key=str), len(known) * 3 // 4)
        telling = choose(drawn_from, max(COUNTS), describe_by(needs.plan, board))
        for count in (count for count in COUNTS if count <= len(drawn_from)):
            for name, order in (("chosen", telling), ("any", drawn_from)):
                some = [known[arch] for arch in order[:count]]
                model = fit_plan(some, needs.plan, engine, board)
                errors[count, name].append(evaluate_plan(model, checks, needs.plan))
    for (count, name), found in errors.items():
        means = sorted(report.mape for report in found)
        say(
            f"  {count:3} networks, {name:6} {sum(means) / SEEDS:6.2%} ({means[0]:.2%} to {means[-1]:.2%}), "
            f"worst {max(report.worst for report in found):6.2%}"
        )


def describe(report: Report) -> str:
    """A report as a line of a table."""
    covered = "" if report.covered is None else f", interval held {report.covered:.0%}"
    return (
        f"{report.name:16} error {report.mape:6.2%}, worst {report.worst:6.2%}, "
        f"within 5 % {report.within_5:4.0%}, within 10 % {report.within_10:4.0%}, "
        f"Spearman {report.spearman:.4f}{covered}"
    )
