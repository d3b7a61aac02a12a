"""Several searches as one table: several seeds, frame rates, or budgets of flash.

Each search has a folder of its own and goes on where it was stopped; one that has ended is not begun again.
What is compared is the accuracy on the test part of the networks as they are delivered: the winner's, that
of random search (as many networks), and that of scaled MobileNetV2, all measured, all under one budget.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev

from tinyhil.harness.boards import get_board
from tinyhil.harness.sweep.workers import Workers
from tinyhil.nas.datasets import load
from tinyhil.nas.deliver import Form
from tinyhil.nas.figures import axes_of
from tinyhil.nas.search import Effort, Say
from tinyhil.nas.session import Request, run_search
from tinyhil.nas.space import NothingFits

NETWORKS = ("winner", "random", "mobilenetv2")
STUDENT = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833)  # 90 %, two-sided, 1..9 degrees
FREE = "no limit"


@dataclass(frozen=True)
class Row:
    """One delivered network of one search. `accuracy` is its share of the test part, in 0..1; run time is in
    `unit`, memory in bytes; `beyond` says what is beyond the budget."""

    case: str
    seed: int
    network: str
    accuracy: float
    run_time: int
    unit: str
    ram: int
    flash: int
    weights: int
    beyond: str
    architecture: str


@dataclass(frozen=True)
class Case:
    """One budget of a study, by its name."""

    name: str
    request: Request


Run = Callable[[Case, int], list[Row]]


def rows_of(case: Case, seed: int, card: Path) -> list[Row]:
    """The networks on the card of a search that has ended."""
    return [
        Row(
            case.name, seed, one["name"], one["test_accuracy_int8"], one["run_time"], one["unit"],
            one["peak_ram"], one["flash"], one["weights"], one["beyond_the_budget"], one["architecture"],
        )
        for one in json.loads(card.read_text())["networks"]
        if one["name"] in NETWORKS
    ]  # fmt: skip


@dataclass
class Searches:
    """Runs a case with a seed, with the effort of `effort`, in a folder of its own below `folder`.

    `share`: the searches of a seed share their super-network, and what was measured to learn from. `missing`
    says for which budgets no network was found, and what the nearest one would need.
    """

    folder: Path
    effort: Effort
    workers: Workers
    say: Say
    share: bool
    missing: list[str] = field(default_factory=list)

    def __call__(self, case: Case, seed: int) -> list[Row]:
        """The networks found, from the card where the search has ended; none where nothing fits."""
        asked, effort = replace(case.request, seed=seed), seeded(self.effort, seed)
        common = self.folder / f"seed-{seed}"
        place = common / case.name.replace(" ", "-").replace(",", "")
        card, done, ended = place / "card.json", place / "asked.txt", repr((asked, effort))
        if not (card.exists() and done.exists() and done.read_text() == ended):
            self.say(f"== {case.name}, seed {seed}")
            try:
                run_search(asked, place, self.workers, self.say, effort, common if self.share else None)
            except NothingFits as error:
                self.say(str(error))
                self.missing.append(f"{case.name}, seed {seed}: {error}")
                return []
            done.write_text(ended)
        return rows_of(case, seed, card)


def seeded(effort: Effort, seed: int) -> Effort:
    """`effort` with everything that is drawn in it drawn by `seed`."""
    return replace(
        effort, seed=seed, training=replace(effort.training, seed=seed),
        evolution=replace(effort.evolution, seed=seed),
    )  # fmt: skip


def frame_rates(request: Request, rates: Sequence[float], seeds: Sequence[int], run: Run) -> list[Row]:
    """The best networks under each of `rates` (frames a second), and without a limit of run time. A rate that
    all networks found without a limit reach is no limit: they are its rows."""
    clock = get_board(request.board).clock_hz
    rows: list[Row] = []
    for seed in seeds:
        free = run(Case(FREE, replace(request, milliseconds=None, count=None)), seed)
        rows += free
        for rate in rates:
            name = f"{rate:g} FPS"
            told = free and free[0].unit != "instructions"
            if told and all(one.run_time * rate <= clock for one in free):
                rows += [replace(one, case=name) for one in free]
            else:
                rows += run(Case(name, replace(request, milliseconds=1e3 / rate, count=None)), seed)
    return rows


def equal_flash(request: Request, flashes: Sequence[int], seeds: Sequence[int], run: Run) -> list[Row]:
    """The best networks of eight and of four bits within the same flash: the four-bit ones may have more
    weights. Both are trained on their grids for as many epochs and built to prefer flash."""
    plain = replace(request, milliseconds=None, count=None)
    return [
        row
        for seed in seeds
        for flash in flashes
        for bits in (8, 4)
        for row in run(
            Case(
                f"{flash // 1024} KiB, int{bits}",
                replace(plain, flash=flash, form=Form(bits, trained=True, prefer="flash")),
            ),
            seed,
        )
    ]


def by_case(rows: Sequence[Row]) -> list[tuple[str, str, list[Row]]]:
    """(case, network, its rows over the seeds), in the order in which they came."""
    cases = list(dict.fromkeys(row.case for row in rows))
    ordered = sorted(rows, key=lambda row: (cases.index(row.case), NETWORKS.index(row.network), row.seed))
    return [(*key, list(group)) for key, group in groupby(ordered, lambda row: (row.case, row.network))]


def table(rows: Sequence[Row]) -> str:
    """Mean over the seeds, and least to most, as Markdown; then how far the winner is from the others."""
    lines = ["| budget | network | test accuracy | run time | RAM | flash | weights | seeds |"]
    lines += ["|---" * 8 + "|"]
    for case, network, group in by_case(rows):
        shares = [row.accuracy for row in group]
        lines.append(
            f"| {case} | {network} | {mean(shares):.1%} ({min(shares):.1%} to {max(shares):.1%}) "
            f"| {mean(row.run_time for row in group):,.0f} {group[0].unit} "
            f"| {mean(row.ram for row in group):,.0f} B | {mean(row.flash for row in group):,.0f} B "
            f"| {mean(row.weights for row in group):,.0f} | {len(group)} |"
        )
    broken = [
        f"{row.case}, seed {row.seed}: {row.network} is beyond: {row.beyond}" for row in rows if row.beyond
    ]
    return "\n".join([*lines, "", *equal(rows), *apart(rows), *broken, ""])


def equal(rows: Sequence[Row]) -> list[str]:
    """Which budgets are no limit: those with the networks of the one without a limit."""
    found: dict[str, set[Row]] = {}
    for row in rows:
        found.setdefault(row.case, set()).add(replace(row, case=""))
    same = [case for case, networks in found.items() if case != FREE and networks == found.get(FREE)]
    return [f"{', '.join(same)}: no limit here, all networks found without one are faster"] if same else []


def apart(rows: Sequence[Row]) -> list[str]:
    """For each case the mean difference in accuracy between the winner and each other network, seed by seed,
    with the 90 % interval of Student's t where there are two seeds or more."""
    said = []
    groups = {(case, network): group for case, network, group in by_case(rows)}
    for (case, network), group in groups.items():
        others = {row.seed: row.accuracy for row in group}
        pairs = [
            row.accuracy - others[row.seed] for row in groups.get((case, "winner"), []) if row.seed in others
        ]
        if network == "winner" or not pairs:
            continue
        text = f"{case}: winner minus {network} {100 * mean(pairs):+.1f} points"
        if 2 <= len(pairs) <= len(STUDENT) + 1:
            half = STUDENT[len(pairs) - 2] * stdev(pairs) / math.sqrt(len(pairs))
            low, high = 100 * (mean(pairs) - half), 100 * (mean(pairs) + half)
            text += f", 90 % interval {low:+.1f} to {high:+.1f}"
            text += " (not told apart)" if low <= 0 <= high else ""
        said.append(text)
    return said


def keep(rows: Sequence[Row], folder: Path, name: str, how: str, missing: Sequence[str] = ()) -> list[Path]:
    """The rows as `name`.csv; their table with `how` they came about and what is `missing` as `name`.md."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.csv", folder / f"{name}.md"]
    with paths[0].open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Row))
        writer.writerows(map(astuple, rows))
    paths[1].write_text("\n".join([how, "", table(rows), *missing, ""]))
    return paths


def draw(rows: Sequence[Row], path: Path, title: str) -> Path:
    """Accuracy per case and network as a picture: a dot for the mean, a bar from the least to the most."""
    figure, axes = axes_of(title)
    cases, named = list(dict.fromkeys(row.case for row in rows)), set[str]()
    for case, network, group in by_case(rows):
        number = NETWORKS.index(network)
        shares = [100 * row.accuracy for row in group]
        at, middle = cases.index(case) + 0.15 * (number - 1), mean(shares)
        axes.errorbar(
            at, middle, [[middle - min(shares)], [max(shares) - middle]], fmt="os^"[number], capsize=3,
            color=f"C{number}", label=None if network in named else network,
        )  # fmt: skip
        named.add(network)
        time, flash = mean(row.run_time for row in group), mean(row.flash for row in group)
        figures = f"{time / 1e6:.2f} M\n{flash / 1024:.0f} KiB"
        axes.annotate(figures, (at, middle), (4, 4), textcoords="offset points", fontsize=5)
    axes.set_xticks(range(len(cases)), cases, fontsize=7)
    unit = rows[0].unit if rows else "run time"
    axes.set_ylabel(f"test accuracy, %; beside each: {unit}, flash")
    if named:
        axes.legend(fontsize=7)
    figure.savefig(path)
    return path


def labelled(request: Request, seeds: int) -> str:
    """What a table or a figure stands on."""
    data = load(request.data)
    said = f"{data.name} ({data.note}), {len(data.test)} images to judge by, {request.board}"
    return f"{said}, {'one seed' if seeds == 1 else f'{seeds} seeds'}"


def trained_figures(
    request: Request, rates: Sequence[float], flashes: Sequence[int], seeds: int, folder: Path,
    workers: Workers, say: Say, effort: Effort,
) -> list[Path]:  # fmt: skip
    """The paper's figures that need training, on the request's data and labelled with it: accuracy under
    frame rates, and eight bits against four at equal flash. Each as .svg, .csv and .md in `folder`."""
    every, how = range(request.seed, request.seed + seeds), labelled(request, seeds)

    def by_rate(run: Run) -> list[Row]:
        return frame_rates(request, rates, every, run)

    def by_flash(run: Run) -> list[Row]:
        return equal_flash(request, flashes, every, run)

    paths = []
    for name, title, ask in (
        ("frame-rates", "accuracy under frame rates", by_rate),
        ("equal-flash", "eight and four bits at equal flash", by_flash),
    ):
        run = Searches(folder, effort, workers, say, share=True)
        rows = ask(run)
        paths += keep(rows, folder, name, f"{title}: {how}", run.missing)
        paths.append(draw(rows, folder / f"{name}.svg", f"{title}: {how}"))
    return paths


def seeds_compared(
    request: Request, seeds: int, folder: Path, workers: Workers, say: Say, effort: Effort
) -> list[Path]:
    """The same search with `seeds` seeds, each from nothing: evolution, random search and scaled MobileNetV2
    by their accuracy on the test part. As .svg, .csv and .md in `folder`."""
    run = Searches(folder, effort, workers, say, share=False)
    rows = [
        row
        for seed in range(request.seed, request.seed + seeds)
        for row in run(Case("budget", request), seed)
    ]
    how = labelled(request, seeds)
    return [*keep(rows, folder, "seeds", how, run.missing), draw(rows, folder / "seeds.svg", how)]
