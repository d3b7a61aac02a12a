"""Whether inherited accuracy ranks networks as training alone does: the figures, and the comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")

import torch

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch
from tinyhil.nas.data import Dataset
from tinyhil.nas.rank import Pair, distinct, draw_ranking, interval, kendall, measure, ranking, spearman
from tinyhil.nas.size import square
from tinyhil.nas.space import Family, Space
from tinyhil.nas.supernet import SuperNet
from tinyhil.nas.supertrain import Covered
from tinyhil.nas.synthetic import figures
from tinyhil.nas.torchnet import Net
from tinyhil.nas.train import Recipe, train

FAMILY = Covered(
    tuple(
        Space(width, square(12), Family(8, 8, ((8, 2, 2), (16, 1, 1)), expansions=(2, 3), classes=2))
        for width in (0.5, 1.0)
    )
)
VALUES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12)


@given(VALUES)
@settings(max_examples=50)
def test_the_correlations_are_scipys(pairs: list[tuple[int, int]]) -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs SciPy: pip install '.[nas]'")
    left, right = (np.array(side, float) for side in zip(*pairs, strict=True))
    if len(set(left)) == 1 or len(set(right)) == 1:
        assert spearman(left, right) is kendall(left, right) is None
        return
    assert spearman(left, right) == pytest.approx(float(stats.spearmanr(left, right)[0]))
    assert kendall(left, right) == pytest.approx(float(stats.kendalltau(left, right)[0]))


def test_the_interval_holds_the_figure_and_shrinks_with_more_networks() -> None:
    source = np.random.default_rng(0)
    left = source.normal(size=80)
    right = left + source.normal(size=80)
    few, many = (interval(spearman, left[:n], right[:n], seed=1, draws=200) for n in (10, 80))
    assert few is not None
    assert many is not None
    assert many[1] < many[0] < many[2]
    assert many[2] - many[1] < few[2] - few[1]
    assert interval(spearman, left, right, seed=1, draws=200) == many
    assert interval(kendall, np.ones(4), left[:4], seed=0, draws=20) is None


def test_the_table_names_data_and_epochs_and_is_sorted_by_what_counts() -> None:
    found = ranking(
        [Pair("a", 10, 0.5, 0.6), Pair("b", 20, 0.7, 0.9), Pair("c", 30, 0.6, 0.7)], "digits, 3 epochs"
    )
    lines = str(found).splitlines()
    assert [line.split()[-1] for line in lines[1:4]] == ["b", "c", "a"]
    assert "Spearman 1.00" in lines[4]
    assert lines[-1] == "digits, 3 epochs"


def test_networks_that_are_all_equal_have_no_ranking_and_that_is_said(tmp_path: Path) -> None:
    pairs = [Pair("a", 10, 0.5, 0.6), Pair("b", 20, 0.5, 0.9), Pair("c", 30, 0.5, 0.7)]
    found = ranking(pairs, "tiny")
    assert found == ranking(pairs, "tiny")
    assert "cannot be told" in str(found)
    draw_ranking(found, tmp_path / "ranking.svg")


def test_networks_are_judged_both_ways_and_a_stopped_comparison_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, recipe, known = figures(12, 120), Recipe(1), tmp_path / "ranked.jsonl"
    torch.manual_seed(0)
    net = SuperNet(FAMILY.largest)
    archs = distinct(FAMILY, 3, recipe.seed)
    assert len(set(archs)) == 3
    assert {arch.width for arch in archs} == {0.5, 1.0}
    found = measure(net, FAMILY, data, 3, recipe, "tiny", known)
    assert [pair.arch for pair in found.pairs] == [str(arch) for arch in archs]
    assert all(0 <= pair.alone <= 1 and 0 <= pair.inherited <= 1 for pair in found.pairs)
    known.write_text(known.read_text()[:-9])  # as a kill would leave the last line
    trained: list[Arch] = []

    def counted(arch: Arch, data: Dataset, recipe: Recipe) -> Net:
        trained.append(arch)
        return train(arch, data, recipe)

    monkeypatch.setattr("tinyhil.nas.rank.train", counted)
    assert measure(net, FAMILY, data, 3, recipe, "tiny", known) == found
    assert trained == [archs[2]], "only the one whose line was cut off"
    picture = tmp_path / "ranking.svg"
    draw_ranking(found, picture)
    assert picture.read_text().startswith("<?xml")
    with pytest.raises(UsageError, match="at least 3"):
        measure(net, FAMILY, data, 2, recipe, "tiny")
