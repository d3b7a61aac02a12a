"""The whole search, from data to a measured network: every step keeps its result and can be resumed.

    latency     networks of all spaces measured, a model fitted            measured-*.jsonl, latency.json
    spaces      stage 1: which (width, resolution) the budget favours      stage1.json
    supernet    one set of weights for all of them                         supernet.pt
    evolution   stage 2, the best re-measured on the way                   evolution.json
    chance      as many networks drawn at random                           random.json
    finalists   the best whose measured firmware is within the budget      (session.py takes it from here)

The budget's RAM and flash are the engine's own plan plus what measured firmware had beside it; its
run time is the upper end of the model's interval.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board
from tinyhil.nas import cost
from tinyhil.nas.arch import Arch
from tinyhil.nas.check import describe
from tinyhil.nas.choosing import choose
from tinyhil.nas.data import Dataset
from tinyhil.nas.evolution import Budget, Judge, Outcome, Settings, evolve, random_search
from tinyhil.nas.latency import Report, evaluate, evaluate_baselines, fit
from tinyhil.nas.meter import Measured, Meter, learn_from
from tinyhil.nas.planlatency import PlanModel, describe_by, evaluate_plan, fit_plan
from tinyhil.nas.planning import EngineNeeds
from tinyhil.nas.size import Size
from tinyhil.nas.space import Family, Need, Needs, NothingFits, Space, grid, pick, rank, sample_spaces
from tinyhil.nas.supernet import SuperNet
from tinyhil.nas.supertrain import Covered, Inherited, SuperRecipe, train_supernet
from tinyhil.nas.train import CPU, Progress

Say = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """What the winner may take: bytes of RAM and flash; run time in milliseconds, or as a count in
    the unit that the target can tell (cycles or instructions)."""

    ram: int
    flash: int
    milliseconds: float | None = None
    count: float | None = None

    def budget(self, unit: str, board: Board) -> Budget:
        """The budget in `unit`; UsageError where only instructions are known and time is asked for."""
        if self.milliseconds is None:
            return Budget(self.ram, self.flash, self.count)
        if unit == "instructions":
            raise UsageError(
                f"{board.name} is emulated without a cycle estimate, so {self.milliseconds:g} ms cannot be "
                "told. Give the budget as instructions (for example --latency 1.5M), or use a board"
            )
        return Budget(self.ram, self.flash, self.milliseconds * 1e-3 * board.clock_hz)


@dataclass(frozen=True)
class Effort:
    """How hard to search. The defaults end within minutes on two cores for images of 32 pixels.

    `finalists` networks of the search, and as many of random search, are trained further for `tuning`
    epochs each; accuracy on the validation part then says which one wins. Where weights of four bits are
    asked for, the winner is trained on them for `narrowing` epochs.
    """

    stage1: int = 24
    minimum: int = 6
    spaces: int = 3
    measured: int = 24
    held_out: int = 8
    pool: int = 200
    training: SuperRecipe = field(
        default_factory=lambda: SuperRecipe(largest=6, epochs=14, shift=2, rate=0.1)
    )
    evolution: Settings = field(
        default_factory=lambda: Settings(
            population=32, parents=8, crossings=12, mutations=12, generations=8, remeasure_every=3
        )
    )
    calibration: int = 5
    finalists: int = 3
    tuning: int = 30
    narrowing: int = 10
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """What a search found. `finalists` are the best networks whose firmware is within the budget, with
    their inherited accuracy, best first; `rivals` the same of random search. `violations` counts the
    better-scored ones of the search that turned out to be beyond the budget. `needs` plans, `asked` is what
    networks take as they are delivered."""

    finalists: tuple[tuple[Measured, float], ...]
    rivals: tuple[tuple[Measured, float], ...]
    budget: Budget
    outcome: Outcome
    chance: Outcome
    model: PlanModel
    reports: tuple[Report, ...]
    spaces: tuple[Space, ...]
    violations: int
    needs: EngineNeeds
    asked: Needs
    net: SuperNet

    @property
    def winner(self) -> Measured:
        """The finalist with the best inherited accuracy."""
        return self.finalists[0][0]


@dataclass
class Search:
    """One search in one folder; `run` goes through the steps, each of which may be called alone.

    Weights of `bits` bits take less flash. `final` measures networks as they will be delivered, where that
    is not how `meter` measures those that are learned from. Searches with a folder `shared` between them
    train one super-network of all spaces; without it there is one of those spaces that stage 1 chose.
    """

    data: Dataset
    family: Family
    widths: tuple[float, ...]
    resolutions: tuple[int | Size, ...]
    limits: Limits
    board: Board
    engine: str
    folder: Path
    meter: Meter
    effort: Effort = field(default_factory=Effort)
    say: Say = print
    progress: Progress | None = None
    device: torch.device = CPU
    bits: int = 8
    final: Meter | None = None
    shared: Path | None = None
    planner: EngineNeeds | None = None

    def run(self) -> Result:
        """All steps; those whose results are in the folder are not done again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        every = grid(self.family, self.widths, self.resolutions)
        needs = self.planner or EngineNeeds(self.board)
        samples, held_out = self.measure_samples(every, needs)
        needs = self.with_overheads(needs, [*samples, *held_out])
        unit = samples[0].unit
        budget = self.limits.budget(unit, self.board)
        known = list(samples)
        model = fit_plan(known, needs.plan, self.engine, self.board)
        plain = [one.sample for one in samples]
        checks = [one.sample for one in held_out]
        reports = (
            evaluate_plan(model, held_out, needs.plan),
            evaluate(fit(plain, self.engine, self.board.name, unit), checks),
            *evaluate_baselines(plain, checks),
        )
        for report in reports:
            self.say(f"  {describe(report)}")
        asked = self.in_form(needs, held_out)
        spaces = self.choose_spaces(every, asked, needs, model, budget)
        net = train_supernet(
            Covered(every if self.shared else spaces), self.data, self.effort.training,
            (self.shared or self.folder) / "supernet.pt", self.progress, self.device,
        )  # fmt: skip
        inherited = Inherited(net, self.data, self.effort.calibration)
        holder = [model]
        seen = {one.sample.arch: float(one.sample.total) for one in (*samples, *held_out)}

        def latency(arch: Arch) -> float:
            return seen[arch] if arch in seen else holder[0].price(needs.plan(arch)).high

        def remeasure(archs: Sequence[Arch]) -> bool:
            known.extend(one for one in self.meter(archs) if one not in known)
            seen.update((one.sample.arch, float(one.sample.total)) for one in known)
            holder[0] = fit_plan(known, needs.plan, self.engine, self.board)
            return True

        judge = Judge(budget, asked, inherited, latency, needs.prepare)
        outcome = evolve(
            spaces, judge, self.effort.evolution, self.folder / "evolution.json", remeasure, self._generation
        )
        chance = random_search(
            spaces, replace_judge(judge), outcome.scored, self.effort.evolution.seed,
            self.effort.evolution.tries, self.folder / "random.json",
        )  # fmt: skip
        self.say(
            f"random search, {chance.scored} networks: best {chance.best.score:.3f} on the validation part"
        )
        finalists, violations = self.pick(outcome, budget)
        rivals, _ = self.pick(chance, budget)
        holder[0].save(self.folder / "latency.json")
        return Result(
            finalists, rivals, budget, outcome, chance, holder[0], tuple(reports), spaces, violations, needs,
            asked, net,
        )  # fmt: skip

    def choose_spaces(
        self, every: Sequence[Space], asked: Needs, needs: EngineNeeds, model: PlanModel, budget: Budget
    ) -> tuple[Space, ...]:
        """Stage 1: the spaces whose networks compute most within the budget."""
        effort, path = self.effort, self.folder / "stage1.json"
        key = repr((every, budget, effort.stage1, effort.minimum, effort.seed, self.board.name))
        if path.exists():
            table = json.loads(path.read_text())
            if table["asked"] == key:
                by_name = {str(space): space for space in every}
                return tuple(by_name[name] for name in table["chosen"])
        self.say(f"stage 1: {effort.stage1} networks of each of {len(every)} spaces, planned by the engine")

        def ask(arch: Arch) -> Need:
            return replace(asked(arch), latency=model.price(needs.plan(arch)).high)

        sampled = sample_spaces(every, ask, effort.stage1, effort.seed, prepare=needs.prepare)
        limits = (budget.ram, budget.flash, effort.minimum, budget.latency)
        pick(sampled, *limits)  # says why, if there is none
        ranked = rank(sampled, *limits)
        for score in ranked[:8]:
            self.say(f"  {score.space}: {score.fitting}/{score.drawn} fit, mean {score.mean / 1e6:.2f} MMACs")
        chosen = tuple(score.space for score in ranked[: effort.spaces])
        rows = [[str(s.space), s.drawn, s.fitting, s.mean, list(s.macs)] for s in ranked]
        path.write_text(json.dumps({"asked": key, "chosen": list(map(str, chosen)), "ranked": rows}))
        return chosen

    def measure_samples(
        self, spaces: Sequence[Space], needs: EngineNeeds
    ) -> tuple[list[Measured], list[Measured]]:
        """The most telling networks, measured; and as many others, held out to judge the model by."""
        effort = self.effort
        source = random.Random(f"pool {effort.seed}")
        pool = [source.choice(spaces).sample(source) for _ in range(effort.pool)]
        pool = list(dict.fromkeys(pool))
        held_out = pool[: effort.held_out]
        needs.prepare(pool)
        chosen = choose(pool[effort.held_out :], effort.measured, describe_by(needs.plan, self.board))
        self.say(f"measuring {len(chosen)} networks on {self.board.name}, and {len(held_out)} held out")
        return self.meter(chosen), self.meter(held_out)

    def with_overheads(self, needs: EngineNeeds, measured: Sequence[Measured]) -> EngineNeeds:
        """`needs` with what built firmware takes beyond the plan: code and stack as they were built, and the
        largest amount by which that was still too little."""
        plans = [needs.plan(one.sample.arch) for one in measured]
        sizes = learn_from(measured, needs.plan)
        if sizes is not None:
            needs.firmware = sizes.needs
        exact = sum(one.planned == plan.arena for one, plan in zip(measured, plans, strict=True))
        predicted = [needs(one.sample.arch) for one in measured]
        needs.ram_extra = max(one.ram - need.ram for one, need in zip(measured, predicted, strict=True))
        needs.flash_extra = max(one.flash - need.flash for one, need in zip(measured, predicted, strict=True))
        self.say(
            f"  arena predicted to the byte for {exact} of {len(measured)} networks; beyond the prediction "
            f"at most {needs.ram_extra} bytes of RAM, {needs.flash_extra} of flash, now reckoned with"
        )
        return needs

    def in_form(self, needs: EngineNeeds, held_out: Sequence[Measured]) -> Needs:
        """`needs` of networks as they are delivered: with narrower weights, and with what `final` measures
        of those held out beyond that."""
        if self.final is None:
            return needs

        def narrow(arch: Arch, ram: int = 0, flash: int = 0) -> Need:
            need = needs(arch)
            flash += need.flash - cost.weights(arch) * (8 - self.bits) // 8
            return replace(need, ram=need.ram + ram, flash=flash)

        archs = [one.sample.arch for one in held_out]
        pairs = [(one, narrow(arch)) for one, arch in zip(self.final(archs), archs, strict=True)]
        ram = max(one.ram - need.ram for one, need in pairs)
        flash = max(one.flash - need.flash for one, need in pairs)
        self.say(f"  in {self.bits} bits as delivered: {ram:+,} bytes of RAM, {flash:+,} of flash")
        return partial(narrow, ram=ram, flash=flash)

    def pick(self, outcome: Outcome, budget: Budget) -> tuple[tuple[tuple[Measured, float], ...], int]:
        """The best-scored networks whose own firmware is within the budget, as many as are to be trained
        further, and how many on the way were not."""
        found: list[tuple[Measured, float]] = []
        violations, count = 0, self.effort.finalists
        for start in range(0, len(outcome.ranked), count):
            part = outcome.ranked[start : start + count]
            for scored, one in zip(part, (self.final or self.meter)([s.arch for s in part]), strict=True):
                if len(found) == count:
                    break
                if fits(one, budget):
                    found.append((one, scored.score))
                else:
                    violations += 1
            if len(found) == count:
                break
        if not found:
            raise NothingFits(
                f"none of the {len(outcome.ranked)} networks found is within the budget when measured; "
                "raise the number of measured networks, or the budget"
            )
        return tuple(found), violations

    def _generation(self, generation: int, outcome: Outcome) -> None:
        self.say(
            f"  generation {generation}: best {outcome.best.score:.3f}, {outcome.scored} scored, "
            f"{outcome.rejected} rejected  {outcome.best.arch}"
        )


def fits(one: Measured, budget: Budget) -> bool:
    """Whether measured firmware is within `budget`."""
    return not beyond(one, budget)


def beyond(one: Measured, budget: Budget) -> str:
    """What measured firmware takes beyond `budget`, in words; "" if it is within."""
    rows = [
        ("run time", one.sample.total, budget.latency, one.unit),
        ("RAM", one.ram, budget.ram, "B"),
        ("flash", one.flash, budget.flash, "B"),
    ]
    return ", ".join(
        f"{name} {takes:,} {unit} where {allowed:,.0f} are allowed ({takes / allowed - 1:+.1%})"
        for name, takes, allowed, unit in rows
        if allowed is not None and takes > allowed
    )


def replace_judge(judge: Judge) -> Judge:
    """The same questions with nothing remembered but the scores, which are the same for all."""
    return replace(judge, rejected=0, _excess={}, _nearest=None)
