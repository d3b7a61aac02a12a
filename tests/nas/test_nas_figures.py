"""Stage 1 as pictures: right numbers first, then a picture that holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyhil.nas.figures import (
    cumulative,
    draw_cumulative,
    draw_sensitivity,
    sensitivity,
    stage_one_figures,
)
from tinyhil.nas.space import Sampled, analytic_needs, grid, rank, sample_spaces

KIB = 1024
RAMS = (192 * KIB, 256 * KIB, 320 * KIB, 512 * KIB)
FLASHES = (512 * KIB, 1024 * KIB, 2048 * KIB)


@pytest.fixture(scope="module")
def sampled() -> tuple[Sampled, ...]:
    spaces = grid(widths=(0.3, 0.5, 0.7, 1.0), resolutions=(112, 144, 176))
    return sample_spaces(spaces, analytic_needs(1.2), 30, seed=1)


def test_the_distribution_rises_to_one(sampled: tuple[Sampled, ...]) -> None:
    score = rank(sampled, 320 * KIB, 1024 * KIB, 5)[0]
    points = cumulative(score)
    assert len(points) == score.fitting
    assert points == sorted(points)
    assert points[-1][1] == 1.0


def test_more_memory_never_picks_a_space_that_computes_less(sampled: tuple[Sampled, ...]) -> None:
    choices = {(choice.ram, choice.flash): choice for choice in sensitivity(sampled, RAMS, FLASHES, 5)}
    assert len(choices) == len(RAMS) * len(FLASHES)
    assert choices[RAMS[0], FLASHES[0]].space != choices[RAMS[-1], FLASHES[-1]].space
    small, large = choices[RAMS[0], FLASHES[1]].space, choices[RAMS[-1], FLASHES[1]].space
    assert small is not None
    assert large is not None
    assert large.resolution >= small.resolution, "more RAM at equal flash: a higher resolution"
    narrow, wide = choices[RAMS[-1], FLASHES[0]].space, choices[RAMS[-1], FLASHES[-1]].space
    assert narrow is not None
    assert wide is not None
    assert wide.width >= narrow.width, "more flash at equal RAM: a larger width"
    assert sensitivity(sampled, (1,), (1,), 5)[0].space is None


def test_the_pictures_name_the_spaces(sampled: tuple[Sampled, ...], tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib (pymoo brings it)")
    matplotlib.rcParams["svg.fonttype"] = "none"
    ranked = rank(sampled, 320 * KIB, 1024 * KIB, 5)
    draw_cumulative(ranked, tmp_path / "cdf.svg", "shapes alone, overhead 1.2")
    text = (tmp_path / "cdf.svg").read_text()
    assert str(ranked[0].space) in text
    assert "shapes alone, overhead 1.2" in text
    choices = sensitivity(sampled, RAMS, FLASHES, 5)
    draw_sensitivity(choices, tmp_path / "sensitivity.svg", "what memory buys")
    text = (tmp_path / "sensitivity.svg").read_text()
    assert all(str(choice.space) in text for choice in choices if choice.space)


def test_the_command_draws_the_published_budgets(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib (pymoo brings it)")
    names = [path.name for path in stage_one_figures(tmp_path, count=12)]
    assert names == [
        "spaces-256k-1024k.svg",
        "spaces-320k-1024k.svg",
        "spaces-512k-2048k.svg",
        "sensitivity.svg",
    ]
    assert all((tmp_path / name).stat().st_size > 2000 for name in names)
