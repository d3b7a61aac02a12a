"""How well inherited accuracy ranks networks: the super-network's word against training each alone.

Stage 2 believes that of two networks the one with the better inherited accuracy is also the better one
when trained by itself. `measure` tests that: it draws networks, judges each both ways, and gives the rank
correlations with a bootstrap interval over the networks. Accuracy is that on the validation part.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyhil.errors import UsageError
from tinyhil.nas import cost
from tinyhil.nas.arch import Arch
from tinyhil.nas.data import Dataset
from tinyhil.nas.deliver import resized
from tinyhil.nas.figures import axes_of
from tinyhil.nas.session import family_for, ticker
from tinyhil.nas.space import grid
from tinyhil.nas.supernet import SuperNet
from tinyhil.nas.supertrain import Covered, Inherited, SuperRecipe, at_resolution, train_supernet
from tinyhil.nas.train import Recipe, accuracy, train

Values = npt.NDArray[np.float64]
Interval = tuple[float, float, float]
Correlation = Callable[[Values, Values], float | None]


@dataclass(frozen=True)
class Pair:
    """One network, judged both ways: shares of the validation part in 0..1."""

    arch: str
    macs: int
    inherited: float
    alone: float


@dataclass(frozen=True)
class Ranking:
    """Rank correlations of `pairs`, each as (value, low, high); the interval covers 90 %. None where all
    networks are equally good on one side: then there is nothing to rank."""

    pairs: tuple[Pair, ...]
    spearman: Interval | None
    kendall: Interval | None
    how: str

    def __str__(self) -> str:
        rows = [f"{'inherited':>10}{'alone':>8}{'MACs':>12}  network"]
        rows += [
            f"{pair.inherited:>10.1%}{pair.alone:>8.1%}{pair.macs:>12,}  {pair.arch}"
            for pair in sorted(self.pairs, key=lambda pair: -pair.alone)
        ]
        rows += [f"Spearman {in_words(self.spearman)}", f"Kendall {in_words(self.kendall)}"]
        return "\n".join([*rows, self.how])


def in_words(found: Interval | None) -> str:
    """A correlation with its interval, for people."""
    if found is None:
        return "cannot be told: one side is equal for all networks"
    value, low, high = found
    return f"{value:.2f}, 90 % interval {low:.2f} to {high:.2f}"


def spearman(left: Values, right: Values) -> float | None:
    """Spearman's rho, equal values sharing their mean rank; None where one side is all equal."""
    return _correlation(_ranks(left), _ranks(right))


def kendall(left: Values, right: Values) -> float | None:
    """Kendall's tau-b, which allows for equal values; None where one side is all equal."""
    upper = np.triu_indices(len(left), 1)
    signs = [np.sign(np.subtract.outer(side, side))[upper] for side in (left, right)]
    norm = float(np.sqrt(np.square(signs[0]).sum() * np.square(signs[1]).sum()))
    return float((signs[0] * signs[1]).sum()) / norm if norm else None


def interval(
    figure: Callable[[Values, Values], float | None],
    left: Values,
    right: Values,
    seed: int,
    draws: int = 2000,
) -> Interval | None:
    """`figure` of the pairs, and the 5th and 95th percentile of it over pairs drawn with replacement; None
    where the pairs have no such figure. Draws without one (all values equal) are left out."""
    source = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        at = source.integers(0, len(left), len(left))
        found.append(figure(left[at], right[at]))
    value, valid = figure(left, right), [one for one in found if one is not None]
    if value is None or not valid:
        return None
    low, high = np.percentile(valid, [5, 95])
    return value, float(low), float(high)


def measure(
    net: SuperNet,
    family: Covered,
    data: Dataset,
    count: int,
    recipe: Recipe,
    how: str,
    known: Path | None = None,
    progress: Callable[[int, Pair], None] = lambda number, pair: None,
) -> Ranking:
    """`count` networks of `family` judged with the weights of `net` and trained alone by `recipe`. What was
    judged is kept in `known` as it comes, and not judged again."""
    if count < 3:
        raise UsageError(f"a rank correlation of {count} networks says nothing; ask for at least 3")
    inherited, pairs = Inherited(net, data), []
    done = _read(known)
    for number, arch in enumerate(distinct(family, count, recipe.seed), 1):
        pair = done.get((str(arch), how))
        if pair is None:
            alone = train(arch, resized(data, arch.resolution), recipe)
            right = accuracy(alone, at_resolution(data.valid, arch.resolution))
            pair = Pair(str(arch), cost.macs(arch), inherited(arch), right)
            if known is not None:
                with known.open("a") as file:
                    file.write("\n" + json.dumps({**asdict(pair), "how": how}))
        pairs.append(pair)
        progress(number, pair)
    return ranking(pairs, how, recipe.seed)


def ranking(pairs: Sequence[Pair], how: str, seed: int = 0) -> Ranking:
    """The correlations of `pairs`; `how` says in words what was trained on what."""
    left, right = (np.array([getattr(p, side) for p in pairs], float) for side in ("inherited", "alone"))
    return Ranking(
        tuple(pairs), interval(spearman, left, right, seed), interval(kendall, left, right, seed), how
    )


def distinct(family: Covered, count: int, seed: int) -> list[Arch]:
    """`count` different networks of `family`, spread over its spaces in turn; fewer where there are fewer."""
    source, found = random.Random(seed), dict[Arch, None]()
    for draw in range(50 * count):
        if len(found) == count:
            break
        found[family.spaces[draw % len(family.spaces)].sample(source)] = None
    return list(found)


def words(data: Dataset, training: SuperRecipe, recipe: Recipe) -> str:
    """What was trained on what, for the table and the figure."""
    return (
        f"{data.name} ({data.note}), {len(data.valid)} images to judge by; super-network {training.largest} "
        f"+ {training.epochs} epochs, each network alone {recipe.epochs}; seed {recipe.seed}"
    )


def rank_on(
    data: Dataset,
    folder: Path,
    count: int,
    seed: int,
    say: Callable[[str], None],
    training: SuperRecipe | None = None,
    epochs: int = 3,
) -> Ranking:
    """The whole comparison in `folder`, from where it stopped: the super-network of all spaces for `data`,
    `count` networks judged, ranking.json and ranking.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    training = training or SuperRecipe(largest=3, epochs=6, shift=1, rate=0.1, seed=seed)
    family, recipe = Covered(grid(*family_for(data))), Recipe(epochs, rate=0.1, shift=1, seed=seed)
    how = words(data, training, recipe)
    say(how)
    net = train_supernet(family, data, training, folder / "supernet.pt", ticker(say))

    def progress(number: int, pair: Pair) -> None:
        say(f"  {number} of {count}: inherited {pair.inherited:.1%}, alone {pair.alone:.1%}  {pair.arch}")

    found = measure(net, family, data, count, recipe, how, folder / "ranked.jsonl", progress)
    (folder / "ranking.json").write_text(json.dumps(asdict(found), indent=1) + "\n")
    draw_ranking(found, folder / "ranking.svg")
    return found


def draw_ranking(found: Ranking, path: Path) -> None:
    """Inherited against stand-alone accuracy, a dot per network, as large as its MACs."""
    figure, axes = axes_of(f"Spearman {in_words(found.spearman)}\n{found.how}")
    largest = max(pair.macs for pair in found.pairs)
    axes.scatter(
        [100 * pair.inherited for pair in found.pairs], [100 * pair.alone for pair in found.pairs],
        s=[20 + 100 * pair.macs / largest for pair in found.pairs],
    )  # fmt: skip
    axes.set_xlabel("inherited accuracy, %")
    axes.set_ylabel("accuracy when trained alone, %")
    figure.savefig(path)


def _ranks(values: Values) -> Values:
    """1-based ranks, equal values sharing the mean of theirs."""
    order = np.sort(values)
    return (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right") + 1) / 2


def _correlation(left: Values, right: Values) -> float | None:
    a, b = left - left.mean(), right - right.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else None


def _read(path: Path | None) -> dict[tuple[str, str], Pair]:
    """What is kept in `path`; a line cut off by a kill is dropped."""
    found: dict[tuple[str, str], Pair] = {}
    for line in path.read_text().splitlines() if path is not None and path.exists() else []:
        try:
            row: dict[str, Any] = json.loads(line)
            how = str(row.pop("how"))
            found[str(row["arch"]), how] = Pair(**row)
        except (ValueError, KeyError, TypeError):
            continue
    return found
