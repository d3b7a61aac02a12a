"""Stage 1 as pictures: the distribution of MACs per space, and what more RAM or flash buys.

Both are drawn from the same sampled networks. A figure says which engine's memory it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyhil.errors import MissingTool
from tinyhil.nas.space import Sampled, Space, SpaceScore, analytic_needs, grid, rank, sample_spaces


@dataclass(frozen=True)
class Choice:
    """The space that stage 1 picks under a budget of `ram` and `flash` bytes; None where none fits."""

    ram: int
    flash: int
    space: Space | None


def sensitivity(
    sampled: Sequence[Sampled], rams: Sequence[int], flashes: Sequence[int], minimum: int
) -> tuple[Choice, ...]:
    """Stage 1's pick for every pair of budgets: more RAM should raise the resolution, more flash the
    width."""
    choices = []
    for ram in rams:
        for flash in flashes:
            ranked = rank(sampled, ram, flash, minimum)
            choices.append(Choice(ram, flash, ranked[0].space if ranked else None))
    return tuple(choices)


def cumulative(score: SpaceScore) -> list[tuple[int, float]]:
    """The empirical distribution of the fitting networks' MACs: (MACs, share that has at most these)."""
    return [(macs, (at + 1) / score.fitting) for at, macs in enumerate(score.macs)]


def draw_cumulative(ranked: Sequence[SpaceScore], path: Path, title: str, most: int = 8) -> None:
    """The distributions of the best `most` spaces as a picture (.svg or .png)."""
    figure, axes = axes_of(title)
    for score in ranked[:most]:
        points = cumulative(score)
        label = f"{score.space}: mean {score.mean / 1e6:.1f} M, {score.fitting} of {score.drawn} fit"
        axes.plot([macs / 1e6 for macs, _ in points], [share for _, share in points], label=label)
    axes.set_xlabel("million multiply-accumulates")
    axes.set_ylabel("share of the fitting networks")
    axes.legend(fontsize=7)
    figure.savefig(path)


def draw_sensitivity(choices: Sequence[Choice], path: Path, title: str) -> None:
    """Each pair of budgets as a dot with its space's name; as large as the resolution, as dark as the
    width."""
    figure, axes = axes_of(title)
    for choice in choices:
        at = (choice.flash / 1024, choice.ram / 1024)
        if choice.space is None:
            axes.annotate("none", at, ha="center", fontsize=7)
            continue
        shade = str(max(0.0, 0.9 - 0.6 * choice.space.width))
        axes.scatter(*at, s=choice.space.resolution.height * 3, color=shade)
        axes.annotate(str(choice.space), at, (0, -22), textcoords="offset points", ha="center", fontsize=7)
    axes.set_xlabel("flash, KiB")
    axes.set_ylabel("RAM, KiB")
    axes.margins(0.15)
    figure.savefig(path)


def stage_one_figures(folder: Path, count: int = 200, seed: int = 0) -> list[Path]:
    """The paper's figures of stage 1 over its 108 spaces, by shapes alone: one distribution per published
    budget, and the sensitivity. No engine, board or data is involved, and the titles say so."""
    how = f"108 spaces, {count} networks each, memory by shapes alone (in-place peak x 1.2)"
    sampled = sample_spaces(grid(), analytic_needs(1.2), count, seed)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for ram, flash in ((256, 1024), (320, 1024), (512, 2048)):
        ranked = rank(sampled, ram * 1024, flash * 1024, minimum=10)
        written.append(folder / f"spaces-{ram}k-{flash}k.svg")
        draw_cumulative(ranked, written[-1], f"{ram} KiB RAM, {flash} KiB flash: {how}")
    rams = [kib * 1024 for kib in (192, 256, 320, 384, 512)]
    flashes = [kib * 1024 for kib in (512, 1024, 1536, 2048)]
    written.append(folder / "sensitivity.svg")
    draw_sensitivity(sensitivity(sampled, rams, flashes, 10), written[-1], f"Stage 1's pick: {how}")
    return written


def axes_of(title: str) -> tuple[Any, Any]:
    """A figure and its axes under `title`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingTool("pictures need matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=9)
    return figure, axes
