"""What to measure next: the network that would teach most."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from straw_plans import networks, plan

from tinyhil.harness.boards import get_board
from tinyhil.nas.arch import Arch
from tinyhil.nas.choosing import NOISE, Counts, _scaled, choose
from tinyhil.nas.planlatency import describe_by

BOARD = get_board("stm32f746")
DESCRIBE = describe_by(plan, BOARD)


def left_unknown(some: Sequence[Arch], pool: Sequence[Arch]) -> float:
    """The variance of the linear model over `pool` after `some` were measured, by the textbook's formula."""
    layers, whole = _scaled([DESCRIBE(arch) for arch in pool])
    noise = NOISE * float(np.median([(rows**2).sum(axis=1).mean() for rows in layers]))
    seen = np.vstack([layers[pool.index(arch)] for arch in some])
    covariance = np.linalg.inv(np.eye(whole.shape[1]) + seen.T @ seen / noise)
    return float(np.einsum("ij,jk,ik->", whole, covariance, whole))


@pytest.mark.parametrize("seed", range(3))
def test_networks_that_were_chosen_leave_less_unknown_than_drawn_ones(seed: int) -> None:
    pool = networks(40, seed)
    drawn = [left_unknown(random.Random(number).sample(pool, 4), pool) for number in range(10)]
    least = left_unknown(choose(pool, 4, DESCRIBE), pool)
    assert sum(least < one for one in drawn) >= 8


def test_a_layer_of_its_own_kind_is_asked_for_before_more_of_the_same() -> None:
    def describe(arch: Arch) -> list[Counts]:
        rare = arch == pool[7]
        return [{"instructions": 100, "rare" if rare else "usual": 50}, {"instructions": 80, "usual": 20}]

    pool = networks(10, 7)
    assert choose(pool, 2, describe, known=pool[:2])[0] == pool[7]
    assert pool[7] not in choose(pool[:7] + pool[8:], 3, describe, known=[pool[7]])


def test_each_network_is_chosen_once_and_the_pool_can_run_dry() -> None:
    pool = networks(5, 7)
    assert sorted(map(str, choose(pool, 9, DESCRIBE))) == sorted(map(str, pool))
    assert choose(pool, 0, DESCRIBE) == []
    assert choose([], 3, DESCRIBE) == []


def test_choosing_goes_on_where_it_was_left() -> None:
    pool = networks(20, 8)
    whole = choose(pool, 6, DESCRIBE)
    assert choose(pool, 3, DESCRIBE) == whole[:3]
