"""Run time by the engine's plan: prices of measured layers, and what the board's caches cannot hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from straw_plans import measure, networks, plan

from tinyhil.errors import UsageError
from tinyhil.harness.boards import get_board
from tinyhil.nas.arch import Arch, Kind, Layer, layers, parse
from tinyhil.nas.caches import PLENTY, Caches, Loop, caches_of, lines_read
from tinyhil.nas.latency import Sample
from tinyhil.nas.meter import Measured
from tinyhil.nas.ownplan import plan_of
from tinyhil.nas.planfeatures import planned_features
from tinyhil.nas.planlatency import PlanModel, evaluate_plan, fit_plan, load_plan_model
from tinyhil.nas.planning import EngineNeeds, Planned, PlannedLayer, family, plan_from_json, plan_to_json
from tinyhil.nas.size import square
from tinyhil.nas.zoo import seeded_graph

BOARD, OTHER = get_board("stm32f746"), get_board("nucleo-l4r5zi")
ROOMY = Caches(PLENTY, PLENTY)


def test_prices_of_measured_layers_predict_networks_not_seen() -> None:
    model = fit_plan([measure(arch) for arch in networks(10, 1)], plan, "tinyengine", BOARD)
    report = evaluate_plan(model, [measure(arch) for arch in networks(20, 2)], plan)
    assert report.mape < 0.02
    assert report.within_5 == 1.0
    assert model.unit == "instructions"


def test_networks_that_were_fused_in_another_way_count_by_their_total_alone() -> None:
    model = fit_plan([measure(arch, fused=True) for arch in networks(6, 1)], plan, "e", BOARD)
    assert model.prices == {}
    arch = networks(1, 9)[0]
    assert model.price(plan(arch)).value == pytest.approx(measure(arch).sample.total, rel=0.4)


def test_a_kernel_never_measured_is_priced_like_the_rest() -> None:
    model = PlanModel("e", "b", "cycles", ROOMY, {"instructions": 2.0, "calls old": 5.0}, 1.5, 0.1, 0.9, 4)
    assert model.price(Planned(0, 0, 0, (PlannedLayer("old x4", 100),))).value == 205
    assert model.price(Planned(0, 0, 0, (PlannedLayer("new", 100),))).value == 150
    assert model.price(Planned(0, 0, 0, (PlannedLayer("new", 100),))).high == pytest.approx(165)
    assert family("conv+dw+1x1 x8") == "conv+dw+1x1"
    assert family("gemm") == "gemm"


def test_five_networks_move_the_prices_to_another_board() -> None:
    def elsewhere(arch: Arch) -> Measured:
        here = measure(arch)
        costs = tuple(
            round(cost * (2.5 if layer.kernel == "gemm" else 1.4))
            for layer, cost in zip(plan(arch).layers, here.layers, strict=True)
        )
        return replace(here, sample=Sample(arch, sum(costs), {}), layers=costs)

    source = fit_plan([measure(arch) for arch in networks(12, 1)], plan, "e", BOARD)
    held_out = [elsewhere(arch) for arch in networks(20, 2)]
    moved = fit_plan([elsewhere(arch) for arch in networks(5, 8)], plan, "e", OTHER, source=source)
    assert (moved.board, moved.samples) == (OTHER.name, 5)
    assert moved.spread > source.spread, "five networks make nothing surer"
    assert evaluate_plan(moved, held_out, plan).mape <= 0.05
    assert evaluate_plan(source, held_out, plan).mape > 0.2


def test_pixels_that_fill_no_block_are_told_apart() -> None:
    def counts(side: int, kernel: str) -> Mapping[str, float]:
        project = Layer("project", Kind.POINTWISE, 1, 1, 24, 16, square(side), square(side), relu6=False)
        depthwise = Layer("dw", Kind.DEPTHWISE, 5, 1, 24, 24, square(side), square(side), relu6=True)
        return planned_features(PlannedLayer(kernel, 1000, parts=(depthwise, project)), ROOMY)

    whole, rest = counts(8, "dw+1x1 x8"), counts(7, "dw+1x1 x2")
    assert whole["block macs"] == 64 * 24 * 16
    assert "rest 2 macs" not in whole
    assert whole["weights"] == 24 * 16, "one call for the whole map"
    assert rest["weights"] == 4 * 24 * 16, "three calls of two rows, and one of the last"
    assert rest["block macs"] == (3 * 12 + 4) * 24 * 16
    assert rest["rest 2 macs"] == 3 * 2 * 24 * 16
    assert rest["rest 3 macs"] == 3 * 24 * 16
    assert (whole["tiles"], rest["tiles"]) == (1, 4)


def test_a_plan_model_survives_its_file_and_a_strange_file_is_refused(tmp_path: Path) -> None:
    model = fit_plan([measure(arch) for arch in networks(4, 1)], plan, "e", BOARD)
    path = tmp_path / "model.json"
    model.save(path)
    assert load_plan_model(path) == model
    for broken in ("", "[]", "{}", path.read_text().replace("plan-latency/3", "plan-latency/9")):
        path.write_text(broken)
        with pytest.raises(UsageError, match=r"model\.json"):
            load_plan_model(path)
    with pytest.raises(UsageError, match="at least two"):
        fit_plan([], plan, "e", BOARD)


def test_what_was_built_teaches_where_the_plan_for_typical_weights_was_another() -> None:
    def other(arch: Arch) -> Measured:
        """A network whose own weights split each layer in two."""
        one, rows = measure(arch), plan(arch).layers
        halves = tuple(half for cost in one.layers for half in (cost // 2, cost - cost // 2))
        kernels = tuple(
            replace(row, kernel=f"own {row.kernel}", instructions=row.instructions // 2)
            for row in rows
            for _ in range(2)
        )
        return replace(one, layers=halves, plan=replace(plan(arch), layers=kernels))

    model = fit_plan([other(arch) for arch in networks(8, 1)], plan, "e", BOARD)
    assert {name for name in model.prices if name.startswith("calls ")} >= {"calls own gemm", "calls own dw"}
    held_out = [other(arch) for arch in networks(10, 2)]
    own = {one.sample.arch: one.plan for one in held_out if one.plan is not None}
    assert evaluate_plan(model, held_out, own.__getitem__).mape < 0.03


def test_a_loop_that_fits_is_read_once_and_one_that_does_not_in_every_round() -> None:
    kernel = Loop(10, 640)
    assert lines_read([kernel], 640) == 20
    assert lines_read([kernel], 639) == 200
    nest = Loop(5, 320, (kernel,))
    assert lines_read([nest], 960) == 30
    assert lines_read([nest], 640) == 5 * (10 + 20), "the kernel stays while it runs, and is gone after"
    assert lines_read([nest], 100) == 5 * (10 + 200)
    assert lines_read([Loop(10, 640, alike=3)], 700) == 60, "each over bytes of its own"
    assert lines_read([Loop(10, 640, alike=3)], 600) == 600
    assert lines_read([nest, nest], 960) == 60, "one after the other"


def test_boards_differ_in_their_caches() -> None:
    assert caches_of(OTHER) == Caches(1024, 256), "the flash accelerator's"
    assert caches_of(BOARD) == Caches(4096, 4096), "the core's own"
    assert caches_of(get_board("native")) == ROOMY


SMALL = parse("r20 c1 | s8 k3e1 | k3e3:16/2 k7e4 | fc10")


def test_code_that_a_small_cache_cannot_hold_counts_in_every_round() -> None:
    """A 7x7 over five columns is unrolled into more than 1 KB; the shorter kernels fit."""
    layers_of = EngineNeeds(OTHER).plan(SMALL).layers
    small, large = caches_of(OTHER), Caches(16384, 16384)
    more = {}
    for layer in layers_of:
        kernels = [part.kernel for part in layer.parts if part.kind is Kind.DEPTHWISE]
        counts = [planned_features(layer, caches).get("code lines", 0) for caches in (small, large)]
        more[max(kernels, default=1)] = counts[0] / max(counts[1], 1)
        assert counts[0] >= counts[1]
    assert more[7] > 50
    assert all(ratio < 10 for kernel, ratio in more.items() if kernel < 7)


def test_the_plan_of_a_network_with_weights_is_kept_with_its_measurement() -> None:
    plan = plan_of(SMALL, seeded_graph("net", SMALL), OTHER)
    assert plan is not None
    assert [part for layer in plan.layers for part in layer.parts] == list(layers(SMALL))
    assert plan_to_json(plan_from_json(SMALL, plan_to_json(plan))) == plan_to_json(plan)
    table = plan_to_json(plan)
    table["layers"][0]["channels"][0][1] = 3  # of which two were dead
    assert plan_from_json(SMALL, table).layers[0].parts[0].cout == 3
