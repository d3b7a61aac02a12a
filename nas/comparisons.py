"""Two of the paper's comparisons as numbers and pictures, by shapes alone: no engine, board or data.

Memory per block, where MobileNetV2's first blocks stand out; and evolution against random search, under
the memory of TinyEngine (depthwise in place) and of CMSIS-NN (every tensor whole). The score of the second
is MACs, which stand in for accuracy: it shows how well a search finds what it looks for, not accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from tinyhil.nas import cost
from tinyhil.nas.arch import Arch, layers
from tinyhil.nas.evolution import Budget, Judge, Settings, evolve, random_search
from tinyhil.nas.figures import axes_of
from tinyhil.nas.space import Need, Needs, Space, analytic_needs, grid
from tinyhil.nas.zoo import architecture

COMPARED = ("mbv2-w0.35-r144", "mcunet-in2")
SETTINGS = Settings(population=40, parents=10, crossings=20, mutations=20, generations=12)
SEEDS = 5


@dataclass(frozen=True)
class Race:
    """Best score so far after each evaluation, one row per seed [seeds, evaluations]."""

    memory: str
    evolution: tuple[tuple[float, ...], ...]
    chance: tuple[tuple[float, ...], ...]


def block_peaks(arch: Arch) -> list[int]:
    """Largest in-place bytes of the layers of each block of `arch`, in order."""
    peaks: dict[int, int] = {}
    for layer in layers(arch):
        if layer.block >= 0:
            peaks[layer.block] = max(peaks.get(layer.block, 0), cost.in_place(layer))
    return [peaks[block] for block in sorted(peaks)]


def whole_tensors(arch: Arch) -> Need:
    """What CMSIS-NN keeps: input and output of every layer, whole; one byte of flash per weight."""
    return Need(cost.activation_bytes(arch), cost.weights(arch), cost.macs(arch))


def race(
    spaces: Sequence[Space], budget: Budget, memory: str, needs: Needs, settings: Settings, seeds: int
) -> Race:
    """Evolution and random search at equal evaluations, for each seed; the score is MACs."""
    found, drawn = [], []
    for seed in range(seeds):
        asked: list[float] = []

        def score(arch: Arch, asked: list[float] = asked) -> float:
            asked.append(float(cost.macs(arch)))
            return asked[-1]

        chosen = replace(settings, seed=seed)
        outcome = evolve(spaces, Judge(budget, needs, score), chosen)
        found.append(tuple(accumulate(asked, max)))
        chance = random_search(
            spaces, Judge(budget, needs, lambda a: float(cost.macs(a))), outcome.scored, seed
        )
        drawn.append(chance.history)
    return Race(memory, tuple(found), tuple(drawn))


def draw_blocks(names: Sequence[str], path: Path) -> None:
    """The peak of each block of the networks called `names`, and how far the worst is above the mean."""
    figure, axes = axes_of("Peak memory per block, depthwise in place, int8, by shapes alone")
    for number, name in enumerate(names):
        peaks = np.array(block_peaks(architecture(name))) / 1024
        label = f"{name}: worst {peaks.max():.0f} KiB, {peaks.max() / peaks.mean():.1f} times the mean"
        axes.bar(np.arange(len(peaks)) + 0.4 * number, peaks, 0.4, label=label)
    axes.set_xlabel("block")
    axes.set_ylabel("KiB")
    axes.legend(fontsize=7)
    figure.savefig(path)


def draw_races(races: Sequence[Race], path: Path, title: str) -> None:
    """Mean of the seeds, with the span of all as a band."""
    figure, axes = axes_of(title)
    for one in races:
        for label, rows in (
            (f"evolution, {one.memory}", one.evolution),
            (f"random, {one.memory}", one.chance),
        ):
            length = min(map(len, rows))
            table = np.array([row[:length] for row in rows]) / 1e6
            axes.plot(table.mean(axis=0), label=f"{label}: {table[:, -1].mean():.1f} M")
            axes.fill_between(range(length), table.min(axis=0), table.max(axis=0), alpha=0.15)
    axes.set_xlabel("networks scored")
    axes.set_ylabel("best so far: million multiply-accumulates, standing in for accuracy")
    axes.legend(fontsize=7)
    figure.savefig(path)


def comparison_figures(folder: Path, settings: Settings = SETTINGS, seeds: int = SEEDS) -> list[Path]:
    """Both pictures in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "blocks.svg", folder / "evolution.svg"]
    draw_blocks(COMPARED, written[0])
    budget = Budget(320 * 1024, 1024 * 1024)
    spaces = grid(widths=(0.5,), resolutions=(112, 144, 176, 208))
    races = [
        race(spaces, budget, "TinyEngine's memory", analytic_needs(1.2), settings, seeds),
        race(spaces, budget, "CMSIS-NN's memory", whole_tensors, settings, seeds),
    ]
    title = f"w0.5, r112 to r208, within 320 KiB and 1 MiB, {seeds} seeds: mean, least and most"
    draw_races(races, written[1], title)
    return written
