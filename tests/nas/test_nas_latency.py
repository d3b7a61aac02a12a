"""The latency model: few measurements, honest intervals, better than the usual proxies."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch, Kind, Layer, layers
from tinyhil.nas.features import NAMES, features, groups, layer_features
from tinyhil.nas.latency import (
    Sample,
    evaluate,
    evaluate_baselines,
    fit,
    load_model,
    samples_from_json,
    samples_to_json,
    transfer,
)
from tinyhil.nas.space import grid
from tinyhil.nas.zoo import architecture

SPACES = grid(widths=(0.3, 0.5, 0.8), resolutions=(48, 80, 112))
UNSEEN = grid(widths=(0.4, 0.6), resolutions=(64, 96))


def layer_price(layer: Layer) -> float:
    """A made-up machine: loops that have nothing to do with the features' own form. Pointwise layers
    run two outputs at a time, depthwise ones pay for borders, rows have an overhead."""
    match layer.kind:
        case Kind.DEPTHWISE:
            border = (layer.size_in.height + layer.kernel - 1) ** 2 * layer.cin
            return 3.1 * layer.macs + 9.0 * layer.bytes_out + 2.2 * border + 40 * layer.cout
        case Kind.POINTWISE:
            pairs = -(-layer.cout // 2) * layer.size_out.area
            return 1.3 * layer.macs + 21.0 * pairs + 4.0 * layer.bytes_in + 55 * layer.cout
        case Kind.CONV:
            return 2.6 * layer.macs + 30 * layer.bytes_out
        case Kind.ADD:
            return 17.0 * layer.bytes_out + 120
        case _:
            return 2.0 * layer.macs + 5.0 * layer.bytes_in + 200


def machine(arch: Arch, noise: float = 0.0, parts: bool = False, factor: float = 1.0) -> Sample:
    source = random.Random(str(arch))
    costs = {layer.name: factor * layer_price(layer) * (1 + source.gauss(0, noise)) for layer in layers(arch)}
    total = round(sum(costs.values()) + 5000)
    return Sample(arch, total, {name: round(cost) for name, cost in costs.items()} if parts else {})


def networks(count: int, seed: int, spaces: tuple[object, ...] = SPACES) -> list[Arch]:
    source = random.Random(seed)
    return [source.choice(spaces).sample(source) for _ in range(count)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("parts", [False, True])
def test_held_out_networks_of_unseen_widths_and_resolutions_are_predicted(parts: bool) -> None:
    samples = [machine(arch, 0.005, parts) for arch in networks(40, 1)]
    held_out = [machine(arch, 0.005) for arch in networks(40, 2, UNSEEN)]
    report = evaluate(fit(samples, "engine", "board"), held_out)
    assert report.networks == 40
    assert report.mape <= 0.03
    assert report.worst <= 0.10
    assert report.within_10 == 1.0
    assert report.spearman >= 0.99
    for baseline in evaluate_baselines(samples, held_out):
        assert report.mape < baseline.mape, baseline


def test_the_interval_holds_what_it_promises() -> None:
    held_out = [machine(arch, 0.02) for arch in networks(60, 4, UNSEEN)]
    covered = []
    for seed in range(4):
        samples = [machine(arch, 0.02) for arch in networks(40, 10 + seed)]
        covered.append(evaluate(fit(samples, "e", "b", coverage=0.9), held_out).covered)
    assert np.mean([share for share in covered if share is not None]) >= 0.8


def test_ten_measurements_move_the_model_to_a_board_with_other_prices() -> None:
    model = fit([machine(arch) for arch in networks(40, 1)], "engine", "here")

    def elsewhere(arch: Arch) -> Sample:
        costs = [
            layer_price(layer) * (3.0 if layer.kind is Kind.DEPTHWISE else 1.7) for layer in layers(arch)
        ]
        return Sample(arch, round(sum(costs)) + 9000, {})

    held_out = [elsewhere(arch) for arch in networks(30, 9, UNSEEN)]
    moved = transfer(model, [elsewhere(arch) for arch in networks(10, 8)], "there", "cycles")
    report = evaluate(moved, held_out)
    assert (moved.board, moved.unit, moved.samples) == ("there", "cycles", 10)
    assert report.mape <= 0.05
    assert evaluate(model, held_out).mape > 0.3


@given(st.integers(0, 10**6))
@settings(max_examples=30)
def test_a_networks_features_are_the_sum_of_its_layers(seed: int) -> None:
    arch = networks(1, seed)[0]
    total = sum(layer_features(layer) for layer in layers(arch))
    np.testing.assert_allclose(features(arch)[1:], np.asarray(total)[1:])
    assert features(arch)[0] == 1
    assert sum(part.stop - part.start for part in groups()) == len(NAMES)


def test_a_model_survives_its_file_and_a_strange_file_is_refused(tmp_path: Path) -> None:
    samples = [machine(arch, parts=True) for arch in networks(6, 3)]
    model = fit(samples, "tinyengine", "stm32f746")
    path = tmp_path / "model.json"
    model.save(path)
    assert load_model(path) == model
    assert samples_from_json(json.loads(json.dumps(samples_to_json(samples)))) == samples
    table = json.loads(path.read_text())
    for broken in (
        "",
        "[]",
        "{}",
        json.dumps(table | {"features": ["x"]}),
        json.dumps(table | {"format": "y"}),
    ):
        path.write_text(broken)
        with pytest.raises(UsageError, match=r"model\.json"):
            load_model(path)


def test_too_few_measurements_are_refused() -> None:
    with pytest.raises(UsageError, match="at least two"):
        fit([machine(architecture("digits"))], "e", "b")
    model = fit([machine(arch) for arch in networks(4, 1)], "e", "b")
    with pytest.raises(UsageError, match="at least one"):
        transfer(model, [], "there")
