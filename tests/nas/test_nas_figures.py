"""Stage 1 as pictures: right numbers first, then a picture that holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyhil.nas import cost
from tinyhil.nas.comparisons import (
    COMPARED,
    block_peaks,
    comparison_figures,
    race,
    whole_tensors,
)
from tinyhil.nas.evolution import Budget, Settings
from tinyhil.nas.figures import (
    cumulative,
    draw_cumulative,
    draw_sensitivity,
    sensitivity,
    stage_one_figures,
)
from tinyhil.nas.size import square
from tinyhil.nas.space import Sampled, Space, analytic_needs, grid, rank, sample_spaces
from tinyhil.nas.zoo import architecture

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
    assert large.resolution.height >= small.resolution.height, "more RAM at equal flash: a higher resolution"
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


def test_the_searched_network_spreads_its_memory_more_evenly_than_mobilenet() -> None:
    mobile, searched = (block_peaks(architecture(name)) for name in COMPARED)
    for name, peaks in zip(COMPARED, (mobile, searched), strict=True):
        assert len(peaks) == len(architecture(name).blocks)
        assert max(peaks) <= cost.in_place_bytes(architecture(name))
    assert max(mobile) * len(mobile) / sum(mobile) > max(searched) * len(searched) / sum(searched)


def test_evolution_and_chance_race_at_equal_evaluations() -> None:
    small = Settings(10, 4, 5, 5, generations=4)
    found = race([Space(0.5, square(144))], Budget(320 * KIB, KIB * KIB), "whole", whole_tensors, small, 2)
    for evolved, drawn in zip(found.evolution, found.chance, strict=True):
        assert len(evolved) == len(drawn)
        assert list(evolved) == sorted(evolved)
        assert evolved[-1] >= evolved[0]


def test_whole_tensors_take_more_than_tensors_in_place() -> None:
    arch = architecture("mcunet-in3")
    assert whole_tensors(arch).ram > analytic_needs(1.0)(arch).ram


def test_the_comparisons_are_drawn_and_say_what_stands_in_for_accuracy(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib (pymoo brings it)")
    matplotlib.rcParams["svg.fonttype"] = "none"
    paths = comparison_figures(tmp_path, Settings(6, 2, 2, 2, generations=1), seeds=2)
    assert [path.name for path in paths] == ["blocks.svg", "evolution.svg"]
    assert "times the mean" in paths[0].read_text()
    assert "standing in for accuracy" in paths[1].read_text()
