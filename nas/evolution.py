"""Stage 2 of the search: evolution under memory and latency budgets, and random search to compare.

The searcher knows nothing of engines, boards or data: it is given three functions, what a network
needs (RAM, flash), how long it runs, how good it is. A draw that breaks the budget is rejected and
drawn again, a bounded number of times; an impossible budget ends in an explanation.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch, parse
from tinyhil.nas.genes import cross, mutate
from tinyhil.nas.space import Needs, NothingFits, Space

FORMAT = "tinyhil-search/1"


@dataclass(frozen=True)
class Budget:
    """What a network may take: bytes of RAM and flash, and run time in the latency model's unit."""

    ram: int
    flash: int
    latency: float | None = None


@dataclass(frozen=True)
class Settings:
    """The paper's: 100 networks, the best 20 are parents of 50 crossings and 50 mutations, 30 times.

    `tries` bounds the draws for one child, `remeasure_every` is in generations (0: never), and
    `top` is how many networks are then measured.
    """

    population: int = 100
    parents: int = 20
    crossings: int = 50
    mutations: int = 50
    probability: float = 0.1
    generations: int = 30
    tries: int = 500
    remeasure_every: int = 0
    top: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Scored:
    """A network that fits, and its accuracy (or whatever is maximised)."""

    arch: Arch
    score: float


@dataclass(frozen=True)
class Outcome:
    """The last population, best first; the best score after each generation; how many networks were
    scored, how many were drawn and rejected; and those that were measured on the way, in order."""

    ranked: tuple[Scored, ...]
    history: tuple[float, ...]
    scored: int
    rejected: int
    remeasured: tuple[Arch, ...] = ()

    @property
    def best(self) -> Scored:
        """The winner."""
        return self.ranked[0]


@dataclass
class Judge:
    """Asks the three questions, each once per network, and keeps what was nearest to fitting. `prepare` is
    told of networks that the questions will be about."""

    budget: Budget
    needs: Needs
    score: Callable[[Arch], float]
    latency: Callable[[Arch], float] | None = None
    prepare: Callable[[Sequence[Arch]], None] = lambda archs: None
    scores: dict[Arch, float] = field(default_factory=dict)
    rejected: int = 0
    _excess: dict[Arch, dict[str, tuple[float, float]]] = field(default_factory=dict)
    _nearest: tuple[float, Arch] | None = None

    def excess(self, arch: Arch) -> dict[str, tuple[float, float]]:
        """Constraints that `arch` breaks: name -> (what it takes, what is allowed). Empty if it fits.

        Run time is asked first, as a model answers faster than a planner: what is too slow is not
        planned. `explain` looks at everything.
        """
        if arch not in self._excess:
            broken = self._over({"latency": self._time(arch)})
            self._excess[arch] = broken or self._over(self._space(arch))
        return self._excess[arch]

    def _time(self, arch: Arch) -> tuple[float, float]:
        if self.budget.latency is None or self.latency is None:
            return 0.0, 0.0
        return self.latency(arch), self.budget.latency

    def _space(self, arch: Arch) -> dict[str, tuple[float, float]]:
        need = self.needs(arch)
        return {"ram": (need.ram, self.budget.ram), "flash": (need.flash, self.budget.flash)}

    @staticmethod
    def _over(asked: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        return {name: pair for name, pair in asked.items() if pair[0] > pair[1]}

    def fits(self, arch: Arch) -> bool:
        """Whether `arch` is within the budget; remembers the nearest miss."""
        broken = self.excess(arch)
        if broken:
            self.rejected += 1
            worst = max(takes / allowed for takes, allowed in broken.values())
            if self._nearest is None or worst < self._nearest[0]:
                self._nearest = (worst, arch)
        return not broken

    def judge(self, arch: Arch) -> Scored:
        """`arch` with its score."""
        if arch not in self.scores:
            self.scores[arch] = self.score(arch)
        return Scored(arch, self.scores[arch])

    def forget_needs(self) -> None:
        """Ask again what networks take: the latency model has learned."""
        self._excess.clear()

    def explain(self, tries: int) -> UsageError:
        """Why no network was found: the nearest one, and what it would need."""
        if self._nearest is None:
            return NothingFits(f"no network was found in {tries} draws")
        _, arch = self._nearest
        parts = [
            f"{name} {takes:,.0f} where {allowed:,.0f} is allowed ({takes / allowed - 1:+.1%})"
            for name, (takes, allowed) in self._over(
                {"latency": self._time(arch), **self._space(arch)}
            ).items()
        ]
        return NothingFits(
            f"no network within the budget was found in {tries} draws. The nearest one takes "
            f"{', '.join(parts)}: {arch}. Raise these limits to that, or search a smaller width or resolution"
        )


def draw(
    make: Callable[[random.Random], Arch],
    judge: Judge,
    source: random.Random,
    tries: int,
    taken: set[Arch],
    count: int,
) -> list[Arch]:
    """`count` networks from `make` that fit and are not in `taken`, which they join; fewer where `tries`
    draws in a row gave none. As many are drawn at a time as are missing, never more than one by one."""
    found: list[Arch] = []
    missed = 0
    while len(found) < count and missed < tries:
        drawn = [make(source) for _ in range(min(count - len(found), tries - missed))]
        judge.prepare(drawn)
        for arch in drawn:
            if arch in taken or not judge.fits(arch):
                missed += 1
                continue
            missed = 0
            taken.add(arch)
            found.append(arch)
    return found


def evolve(
    spaces: Sequence[Space],
    judge: Judge,
    settings: Settings,
    state: Path | None = None,
    remeasure: Callable[[Sequence[Arch]], bool] | None = None,
    progress: Callable[[int, Outcome], None] | None = None,
) -> Outcome:
    """The search. With `state`, every generation is kept there, and a search that finds the state of
    the same budget, spaces and settings goes on from it to the same result.

    `remeasure` is given the best networks and says whether what is known of latency has changed.
    """
    identity = {
        "format": FORMAT, "spaces": " ".join(map(str, spaces)), "settings": repr(settings),
        "budget": repr(judge.budget),
    }  # fmt: skip
    outcome = _load(state, identity) if state is not None and state.exists() else None
    if outcome is not None:
        judge.rejected = outcome.rejected
        judge.scores.update({one.arch: one.score for one in outcome.ranked})
        if remeasure is not None and outcome.remeasured and remeasure(outcome.remeasured):
            judge.forget_needs()
    for generation in range(len(outcome.history) if outcome else 0, settings.generations + 1):
        source = random.Random(f"{settings.seed} {generation}")
        parents = outcome.ranked[: settings.parents] if outcome else ()
        scored = outcome.scored if outcome else 0
        children = _children(spaces, judge, settings, source, parents)
        survivors = [one for one in parents if judge.fits(one.arch)]
        fresh = [judge.judge(arch) for arch in children]
        ranked = sorted([*survivors, *fresh], key=lambda one: (-one.score, str(one.arch)))
        ranked = ranked[: settings.population]
        if not ranked:
            raise judge.explain(settings.tries)
        history = (*(outcome.history if outcome else ()), ranked[0].score)
        again = outcome.remeasured if outcome else ()
        outcome = Outcome(tuple(ranked), history, scored + len(fresh), judge.rejected, again)
        every = settings.remeasure_every
        if remeasure is not None and every and generation % every == every - 1:
            top = tuple(one.arch for one in ranked[: settings.top])
            outcome = replace(outcome, remeasured=(*outcome.remeasured, *top))
            if remeasure(top):
                judge.forget_needs()
        if state is not None:
            _save(state, identity, outcome)
        if progress is not None:
            progress(generation, outcome)
    assert outcome is not None
    return outcome


def random_search(
    spaces: Sequence[Space],
    judge: Judge,
    count: int,
    seed: int,
    tries: int = 500,
    state: Path | None = None,
) -> Outcome:
    """`count` networks drawn uniformly from those that fit: what any search must beat. With `state`, what was
    found is kept there, and not searched for again."""
    identity = {
        "format": FORMAT, "spaces": " ".join(map(str, spaces)), "settings": f"random {count} {seed} {tries}",
        "budget": repr(judge.budget),
    }  # fmt: skip
    if state is not None and state.exists():
        return _load(state, identity)
    source = random.Random(f"random {seed}")
    ranked: list[Scored] = []
    history: list[float] = []
    for arch in draw(lambda s: s.choice(spaces).sample(s), judge, source, tries, set(), count):
        ranked.append(judge.judge(arch))
        history.append(max(ranked[-1].score, history[-1] if history else ranked[-1].score))
    if not ranked:
        raise judge.explain(tries)
    ranked.sort(key=lambda one: (-one.score, str(one.arch)))
    outcome = Outcome(tuple(ranked), tuple(history), len(ranked), judge.rejected)
    if state is not None:
        _save(state, identity, outcome)
    return outcome


def _children(
    spaces: Sequence[Space],
    judge: Judge,
    settings: Settings,
    source: random.Random,
    parents: Sequence[Scored],
) -> list[Arch]:
    """The new networks of a generation; fewer than asked for where the budget leaves no more."""

    def fresh(s: random.Random) -> Arch:
        return s.choice(spaces).sample(s)

    def crossing(s: random.Random) -> Arch:
        one, other = s.choice(parents).arch, s.choice(parents).arch
        return cross(one, other, spaces, s)

    def mutation(s: random.Random) -> Arch:
        return mutate(s.choice(parents).arch, spaces, settings.probability, s)

    ways = [(crossing, settings.crossings), (mutation, settings.mutations)]
    taken = {one.arch for one in parents}
    found: list[Arch] = []
    for make, count in ways if parents else [(fresh, settings.population)]:
        found += draw(make, judge, source, settings.tries, taken, count)
    if not parents and not found:
        raise judge.explain(settings.tries)
    return found


def _save(path: Path, identity: dict[str, str], outcome: Outcome) -> None:
    table = {
        "identity": identity,
        "ranked": [[str(one.arch), one.score] for one in outcome.ranked],
        "history": outcome.history,
        "scored": outcome.scored,
        "rejected": outcome.rejected,
        "remeasured": list(map(str, outcome.remeasured)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(table))
    part.replace(path)


def _load(path: Path, identity: dict[str, str]) -> Outcome:
    try:
        table: dict[str, Any] = json.loads(path.read_text())
        different = [name for name in identity if table["identity"].get(name) != identity[name]]
        if different:
            raise UsageError(
                f"{path} is the state of a search with another {', '.join(different)}: "
                "delete it or search in another folder"
            )
        ranked = tuple(Scored(parse(text), float(score)) for text, score in table["ranked"])
        again = tuple(map(parse, table["remeasured"]))
        return Outcome(ranked, tuple(table["history"]), int(table["scored"]), int(table["rejected"]), again)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not the state of a search ({error!r}); delete it") from error
