"""The loop's parts with an instrument of straw: what is measured, kept, predicted, refused."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click.testing
import pytest

from tinyhil.errors import BenchError, UsageError
from tinyhil.harness.boards import get_board
from tinyhil.nas.arch import Arch, Kind, Layer, layers
from tinyhil.nas.codesize import Built
from tinyhil.nas.commands import parse_time, zoo
from tinyhil.nas.latency import Sample
from tinyhil.nas.meter import Measured, from_json, measured_from, read_results, to_json
from tinyhil.nas.planfeatures import planned_features
from tinyhil.nas.planlatency import PlanModel, evaluate_plan, fit_plan, load_plan_model
from tinyhil.nas.planning import Planned, PlannedLayer, family
from tinyhil.nas.size import square
from tinyhil.nas.space import Family, grid
from tinyhil.nas.zoo import architecture
from tinyhil.results.record import Correctness, EngineId, Estimate, LayerResult, Measurement, Model, PeakRam

FAMILY = Family(stem=16, first=8, stages=((16, 2, 3), (24, 2, 3), (64, 1, 1)), classes=10, channels=1)
SPACES = grid(FAMILY, (0.5, 1.0), (16, 24))
PRICES = {"gemm": 0.7, "dw x4": 0.9, "dw x2": 0.9, "portable": 1.4}


def plan(arch: Arch) -> Planned:
    """A made-up plan: every layer on a kernel that follows from its shape."""
    rows = []
    for layer in layers(arch):
        kernel = {"pointwise": "gemm", "depthwise": "dw x4" if layer.size_out.width % 4 == 0 else "dw x2"}
        count = 3 * layer.macs + 10 * layer.bytes_out
        rows.append(PlannedLayer(kernel.get(layer.kind, "portable"), count, parts=(layer,)))
    return Planned(1000, 2000, sum(layer.macs for layer in layers(arch)), tuple(rows))


def measure(arch: Arch, *, fused: bool = False) -> Measured:
    """What a machine with PRICES per planned instruction, and 50 per call, would show."""
    source = random.Random(str(arch))
    costs = tuple(
        round((PRICES[layer.kernel] * layer.instructions + 50) * source.uniform(0.99, 1.01))
        for layer in plan(arch).layers
    )
    return Measured(
        Sample(arch, sum(costs), {}), "instructions", 1100, 1000, 2500, costs[1:] if fused else costs
    )


def networks(count: int, seed: int) -> list[Arch]:
    source = random.Random(seed)
    return [source.choice(SPACES).sample(source) for _ in range(count)]


def test_prices_of_measured_layers_predict_networks_not_seen() -> None:
    model = fit_plan([measure(arch) for arch in networks(10, 1)], plan, "tinyengine", "board")
    report = evaluate_plan(model, [measure(arch) for arch in networks(20, 2)], plan)
    assert report.mape < 0.02
    assert report.within_5 == 1.0
    assert model.unit == "instructions"


def test_networks_that_were_fused_in_another_way_count_by_their_total_alone() -> None:
    model = fit_plan([measure(arch, fused=True) for arch in networks(6, 1)], plan, "e", "b")
    assert model.prices == {}
    arch = networks(1, 9)[0]
    assert model.price(plan(arch)).value == pytest.approx(measure(arch).sample.total, rel=0.4)


def test_a_kernel_never_measured_is_priced_like_the_rest() -> None:
    model = PlanModel("e", "b", "cycles", {"instructions": 2.0, "calls old": 5.0}, 1.5, 0.1, 0.9, 4)
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

    source = fit_plan([measure(arch) for arch in networks(12, 1)], plan, "e", "here")
    held_out = [elsewhere(arch) for arch in networks(20, 2)]
    moved = fit_plan([elsewhere(arch) for arch in networks(5, 8)], plan, "e", "there", source=source)
    assert (moved.board, moved.samples) == ("there", 5)
    assert evaluate_plan(moved, held_out, plan).mape <= 0.05
    assert evaluate_plan(source, held_out, plan).mape > 0.2


def test_pixels_that_fill_no_block_are_told_apart() -> None:
    def counts(side: int, kernel: str) -> Mapping[str, float]:
        project = Layer("project", Kind.POINTWISE, 1, 1, 24, 16, square(side), square(side), relu6=False)
        depthwise = Layer("dw", Kind.DEPTHWISE, 5, 1, 24, 24, square(side), square(side), relu6=True)
        return planned_features(PlannedLayer(kernel, 1000, parts=(depthwise, project)))

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
    model = fit_plan([measure(arch) for arch in networks(4, 1)], plan, "e", "b")
    path = tmp_path / "model.json"
    model.save(path)
    assert load_plan_model(path) == model
    for broken in ("", "[]", "{}", path.read_text().replace("plan-latency/2", "plan-latency/9")):
        path.write_text(broken)
        with pytest.raises(UsageError, match=r"model\.json"):
            load_plan_model(path)
    with pytest.raises(UsageError, match="at least two"):
        fit_plan([], plan, "e", "b")


def record(arch: Arch, **changes: object) -> Measurement:
    rows = tuple(LayerResult(layer.name, layer.kind, layer.macs, instructions=7) for layer in layers(arch))
    whole = Measurement(
        model=Model("net", "0" * 64, 1, 1), engine=EngineId("tinyengine", "1"), board="stm32f746",
        mode="qemu", kind="counted", clock_hz=216_000_000, instructions=7 * len(rows),
        peak_ram=PeakRam(1200, 0, 1100, 100, 1100), flash=5000, correct=Correctness(True, 0, "x", "y"),
        layers=rows,
    )  # fmt: skip
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_the_best_kind_of_run_time_is_taken_and_named() -> None:
    arch = architecture("digits")
    counted = measured_from(arch, record(arch))
    assert (counted.unit, counted.sample.total) == ("instructions", 7 * len(list(layers(arch))))
    assert (counted.ram, counted.planned, counted.flash) == (1200, 1100, 5000)
    assert set(counted.sample.parts) == {layer.name for layer in layers(arch)}
    estimated = record(arch, cycles_est=Estimate(900.4, 800.0, 1000.0, "m7"))
    assert measured_from(arch, estimated).unit == "cycles_est"
    assert measured_from(arch, estimated).sample.total == 900
    assert measured_from(arch, replace(estimated, cycles=950)).unit == "cycles"
    with pytest.raises(BenchError, match="no run time"):
        measured_from(arch, record(arch, instructions=None))


def test_layers_that_the_engine_fused_are_not_taken_for_the_architectures() -> None:
    arch = architecture("digits")
    fused = record(arch).layers[1:]
    one = measured_from(arch, record(arch, layers=fused))
    assert one.sample.parts == {}
    assert len(one.layers) == len(fused)


def test_results_survive_their_file_and_a_line_cut_by_a_kill(tmp_path: Path) -> None:
    kept = [measure(arch) for arch in networks(3, 5)]
    kept[1] = replace(kept[1], built=Built({"th_gemm_a": 400}, ((1, 60), (3, 900)), 340, 48))
    assert [from_json(to_json(one)) for one in kept] == kept
    path = tmp_path / "measured.jsonl"
    lines = [json.dumps(to_json(one)) + "\n" for one in kept]
    path.write_text("".join(lines) + lines[0][:40])
    assert list(read_results(path).values()) == kept
    assert path.read_text() == "".join(lines), "the cut line must be gone, so that the next one starts clean"
    path.write_text("not json\n" + lines[0])
    with pytest.raises(UsageError, match="line 1"):
        read_results(path)
    assert read_results(tmp_path / "none.jsonl") == {}


def test_times_and_counts_are_read_and_nonsense_is_refused() -> None:
    assert parse_time("5ms") == (5.0, None)
    assert parse_time("0.1s") == (100.0, None)
    assert parse_time("1.5M") == (None, 1.5e6)
    assert parse_time("900000") == (None, 900000)
    for wrong in ("", "fast", "5 parsecs", "-3ms"):
        with pytest.raises(UsageError):
            parse_time(wrong)


def test_the_zoo_command_makes_what_is_asked_for(tmp_path: Path) -> None:
    runner = click.testing.CliRunner()
    made = runner.invoke(zoo, [str(tmp_path), "--name", "digits"])
    assert made.exit_code == 0, made.output
    assert [path.name for path in tmp_path.glob("*.tflite")] == ["digits.tflite"]
    listed = runner.invoke(zoo, ["--list"])
    assert "mcunet-in3" in listed.output
    assert "81,785,520" in listed.output


def test_milliseconds_need_cycles() -> None:
    pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")
    from tinyhil.nas.search import Limits, fits

    board = get_board("stm32f746")
    assert Limits(1, 2, 5.0).budget("cycles", board).latency == pytest.approx(5e-3 * board.clock_hz)
    assert Limits(1, 2, None, 7.0).budget("instructions", board).latency == 7.0
    with pytest.raises(UsageError, match="without a cycle estimate"):
        Limits(1, 2, 5.0).budget("instructions", board)
    one = measure(networks(1, 1)[0])
    roomy = Limits(2000, 3000, None, 1e9).budget("instructions", board)
    assert fits(one, roomy)
    for tight in (replace(roomy, ram=1), replace(roomy, flash=1), replace(roomy, latency=1.0)):
        assert not fits(one, tight)


@pytest.mark.slow
def test_a_whole_search_in_small_ends_within_its_budget_and_can_be_repeated(tmp_path: Path) -> None:
    """Data, planner, super-network and evolution are real; only the emulator is made of straw."""
    pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")
    from tiny_search import tiny_search

    result = tiny_search(tmp_path / "out")
    assert result.winner.ram <= 64_000
    assert result.winner.flash <= 200_000
    assert result.winner.sample.total <= 400_000
    assert 0 <= result.finalists[0][1] <= 1
    assert result.rivals
    assert result.chance.scored <= result.outcome.scored
    assert {"stage1.json", "supernet.pt", "evolution.json", "latency.json"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    again = tiny_search(tmp_path / "out")
    assert again.winner == result.winner
    assert again.outcome.ranked == result.outcome.ranked


def run(folder: Path, kill_at: str | None = None) -> bool:
    """A search in a process of its own, killed by SIGKILL when it says `kill_at`; whether it ended well."""
    command = [sys.executable, str(Path(__file__).with_name("tiny_search.py")), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if kill_at is not None and kill_at in line:
                process.kill()
        return process.wait() == 0


@pytest.mark.slow
def test_a_search_that_is_killed_again_and_again_ends_like_one_that_was_not(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")
    assert run(tmp_path / "whole")
    for moment in ("training: step", "generation 0"):
        assert not run(tmp_path / "killed", moment), moment
    assert run(tmp_path / "killed")
    for name in ("result.json", "stage1.json", "evolution.json", "latency.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_predictions_are_judged_on_networks_not_learned_from(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")
    from tiny_search import straw_meter

    from tinyhil.nas.check import JUDGED, LEARNED, check

    asked: list[Arch] = []

    def meter(archs: Sequence[Arch]) -> list[Measured]:
        asked.extend(archs)
        return straw_meter(archs)

    model = check(get_board("stm32f746"), "tinyengine", meter, 3, 2, 0, print)
    said = capsys.readouterr().out
    assert model.samples == 3
    assert "arena to the byte: 2 of 2" in said
    for name in ("engine's plan", "layer features", "MACs + elements", "MACs "):
        assert name in said
    assert {(arch.width, arch.resolution) for arch in asked[:3]} <= {(s.width, s.resolution) for s in LEARNED}
    assert {(arch.width, arch.resolution) for arch in asked[3:]} <= {(s.width, s.resolution) for s in JUDGED}
