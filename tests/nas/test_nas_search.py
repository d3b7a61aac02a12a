"""The loop's parts with an instrument of straw: what is measured, kept, predicted, refused."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click.testing
import pytest
from straw_plans import measure, networks

from tinyhil.errors import BenchError, UsageError
from tinyhil.harness.boards import get_board
from tinyhil.nas.arch import Arch, layers
from tinyhil.nas.codesize import Built
from tinyhil.nas.commands import parse_time, zoo
from tinyhil.nas.meter import Measured, from_json, measured_from, read_results, to_json
from tinyhil.nas.zoo import architecture
from tinyhil.results.record import Correctness, EngineId, Estimate, LayerResult, Measurement, Model, PeakRam


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
    assert (counted.unit, counted.sample.total) == ("instructions", 7 * len(layers(arch)))
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
    for name in ("result.json", "stage1.json", "evolution.json", "random.json", "latency.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_predictions_are_judged_on_networks_not_learned_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")
    from tiny_search import straw_meter

    from tinyhil.nas.check import JUDGED, LEARNED, check, curve

    monkeypatch.setattr("tinyhil.nas.check.POOL", 6)
    monkeypatch.setattr("tinyhil.nas.check.COUNTS", (2, 3))
    asked: list[Arch] = []

    def meter(archs: Sequence[Arch]) -> list[Measured]:
        asked.extend(archs)
        return straw_meter(archs)

    model = check(get_board("stm32f746"), "tinyengine", meter, 3, 2, 0, print)
    said = capsys.readouterr().out
    assert model.samples == 3
    assert "typical weights: arena to the byte 2 of 2, flash within 1 KiB" in said
    for name in ("engine's plan", "layer features", "MACs + elements", "MACs "):
        assert name in said
    assert {(arch.width, arch.resolution) for arch in asked[:3]} <= {(s.width, s.resolution) for s in LEARNED}
    assert {(arch.width, arch.resolution) for arch in asked[3:]} <= {(s.width, s.resolution) for s in JUDGED}
    curve(get_board("stm32f746"), "tinyengine", meter, 4, 2, 0, print)
    said = capsys.readouterr().out
    for row in ("2 networks, chosen", "2 networks, any", "3 networks, chosen", "3 networks, any"):
        assert row in said


def test_what_is_beyond_the_budget_is_said_in_words() -> None:
    pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")
    from tinyhil.nas.evolution import Budget
    from tinyhil.nas.search import beyond

    one = replace(measure(networks(1, 1)[0]), ram=1100, flash=2500)
    assert beyond(one, Budget(1100, 2500, None)) == ""
    assert beyond(one, Budget(1000, 2000, None)) == (
        "RAM 1,100 B where 1,000 are allowed (+10.0%), flash 2,500 B where 2,000 are allowed (+25.0%)"
    )
    assert beyond(one, Budget(1100, 2500, 1.0)).startswith("run time ")


def test_a_search_for_narrow_weights_reckons_with_what_their_firmware_takes(tmp_path: Path) -> None:
    """Firmware of four bits that takes 900 bytes more code, 300 more RAM, and half of the weights."""
    pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")
    from tiny_search import BOARD, a_search, straw_meter

    from tinyhil.nas import cost
    from tinyhil.nas.planning import EngineNeeds
    from tinyhil.nas.space import grid

    def narrow(archs: Sequence[Arch]) -> list[Measured]:
        return [
            replace(one, ram=one.ram + 300, flash=one.flash + 900 - cost.weights(one.sample.arch) // 2)
            for one in straw_meter(archs)
        ]

    found = replace(a_search(tmp_path), bits=4, final=narrow)
    spaces = grid(found.family, found.widths, found.resolutions)
    samples = straw_meter([space.sample(random.Random(at)) for at, space in enumerate(spaces)])
    needs = found.with_overheads(EngineNeeds(BOARD), samples)
    asked = found.in_form(needs, samples[:2])
    for one in narrow([one.sample.arch for one in samples]):
        need = asked(one.sample.arch)
        assert need.ram >= one.ram
        assert 0 <= need.flash - one.flash <= 1
    assert replace(found, final=None).in_form(needs, samples) is needs


def test_searches_with_a_shared_folder_share_one_super_network_of_all_spaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")
    from tiny_search import a_search

    from tinyhil.nas import search
    from tinyhil.nas.space import grid
    from tinyhil.nas.supertrain import Covered

    seen: list[object] = []

    class Reached(Exception):
        pass

    def train(covered: Covered, data: object, recipe: object, checkpoint: Path, *rest: object) -> None:
        seen.extend((covered.spaces, checkpoint))
        raise Reached

    monkeypatch.setattr(search, "train_supernet", train)
    one = replace(a_search(tmp_path / "one"), shared=tmp_path)
    with pytest.raises(Reached):
        one.run()
    assert seen == [grid(one.family, one.widths, one.resolutions), tmp_path / "supernet.pt"]
    assert (tmp_path / "one" / "stage1.json").exists()
