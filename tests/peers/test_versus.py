"""The engines side by side in a terminal: what can be ranked is, and what cannot says why."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from tinyhil.harness.versus import versus_lines
from tinyhil.results.metrics import METRICS
from tinyhil.results.record import (
    Correctness,
    EngineId,
    Estimate,
    Failure,
    LayerResult,
    Measurement,
    Model,
    PeakRam,
)
from tinyhil.results.reference import load_references
from tinyhil.results.report import render_report
from tinyhil.results.report.layers import Series, layer_bars

OURS = {"compiler": "gcc 12", "flags": "-mcpu=cortex-m7 -O2"}
THEIRS = {
    **OURS,
    "defines": "-DTHEIR_MACRO",
    "library": "tflm",
    "library_version": "90b",
    "library_compiler": "GNU C 11",
    "library_flags": "-O2 -Os",
    "library_flags_differ": "-Os",
    "float_io": "true",
    "arena_persistent": "600",
    "arena_non_persistent": "400",
}


def row(engine: str, count: int, *layers: tuple[str, str, int], **changes: Any) -> Measurement:
    made = Measurement(
        model=Model("te_vww", "ab" * 32, 1_000_000, 10),
        engine=EngineId(engine, "1"),
        board="stm32f746",
        mode="qemu",
        kind="counted",
        clock_hz=216_000_000,
        instructions=count,
        cycles_est=Estimate(count * 1.0, count * 0.9, count * 1.1, "m7"),
        peak_ram=PeakRam(count // 1000, 0, count // 1000, 0),
        flash=5_000,
        correct=Correctness(True, 0, "tflite-micro", "00"),
        layers=tuple(LayerResult(name, op, 1, instructions=n) for name, op, n in layers),
        provenance=OURS,
    )
    return replace(made, **changes)


RECORDS = [
    row("tflm", 4_000_000, ("Conv2D -> 4", "Conv2D", 3_999_000), ("Add -> 4", "Add", 900), provenance=THEIRS),
    row("tinyengine", 2_000_000, ("Conv2D -> 4", "Conv2D", 1_999_000), ("Add -> 4", "Add", 1_000)),
    row("cmsis-nn", 0, instructions=None, cycles_est=None, peak_ram=None, flash=None, correct=None,
        error=Failure("MissingTool", "no kit of cmsis-nn: set X. A kit is a folder.")),
]  # fmt: skip


def line(lines: list[str], start: str) -> list[str]:
    return next(text for text in lines if text.startswith(start)).split()


def test_ratios_have_tinyengine_as_one() -> None:
    lines = versus_lines(RECORDS, ceilings={"stm32f746": 2.0})
    assert "the core's ceiling is 0.5 cycles per MAC" in lines[0]
    ours, theirs = line(lines, "tinyengine"), line(lines, "tflm")
    assert ours.count("1.00") == 4  # latency, instructions, RAM, flash
    assert theirs.count("2.00") >= 3
    assert "25%" in ours  # 2 cycles per MAC, estimated
    assert theirs[-1] == "exact"


def test_a_missing_row_says_why_in_one_sentence() -> None:
    lines = versus_lines(RECORDS)
    assert line(lines, "cmsis-nn")[-2:] == ["not", "run"]
    assert "  cmsis-nn: no kit of cmsis-nn: set X" in lines


def test_what_is_not_the_same_on_both_sides_is_said() -> None:
    lines = versus_lines(RECORDS)
    (notes,) = [text for text in lines if text.startswith("  tflm:")]
    assert "converted on the device" in notes
    assert "arena 1,000 B: 600 persistent, 400 not" in notes
    text = "\n".join(lines)
    assert "-O2, library -O2 -Os" in text
    assert "gcc 12 -mcpu=cortex-m7 -O2 -DTHEIR_MACRO" in text
    assert "in one of the two only: -Os" in text


def test_layers_stand_side_by_side_and_those_that_are_lost_are_marked() -> None:
    lines = versus_lines(RECORDS, layers=True)
    assert line(lines, "0 Conv2D")[-2:] == ["1,999,000", "3,999,000"]
    assert line(lines, "1 Add")[-3:] == ["1,000", "<", "900"]
    assert "  < marks the 1 of 2 layers that tinyengine loses" in lines


def test_rows_from_elsewhere_stand_apart_with_their_origin() -> None:
    references = load_references()
    lines = versus_lines(RECORDS, references=references)
    start = next(i for i, text in enumerate(lines) if text.startswith("elsewhere"))
    below = [text for text in lines[start:] if "measured earlier" in text]
    kits = [r for r in references if (r.network, r.board) == ("te_vww", "stm32f746")]
    assert len(below) == len(kits) > 0
    assert all(" 1.00 " not in text for text in below)  # no ratio to what was measured elsewhere
    assert not any("measured earlier" in text for text in lines[:start])


def test_published_rows_are_called_so() -> None:
    models = {r.network for r in load_references() if r.origin == "published" and r.board == "stm32f746"}
    name = sorted(models)[0]
    renamed = [replace(r, model=replace(r.model, name=name)) for r in RECORDS]
    assert any("  published  " in text for text in versus_lines(renamed, references=load_references()))


def test_marks_of_equal_engines_do_not_hide_each_other() -> None:
    sides = [Series("tinyengine", 0, (5.0,)), Series("cmsis-nn", 1, (9.0,)), Series("tflm", 2, (9.0,))]
    svg = layer_bars("layers", ["0 Conv2D"], sides, METRICS["instructions"]).svg
    marks = [
        {key: float(text) for key, text in re.findall(r' (x|y|height)="([0-9.]+)"', rect)}
        for rect in re.findall(r"<rect[^>]*mark[^>]*>", str(svg))
    ]
    first, second = sorted(marks, key=lambda mark: mark["y"])
    assert first["x"] == second["x"]
    assert first["y"] + first["height"] <= second["y"]


def test_the_report_says_the_same() -> None:
    page = render_report(RECORDS)
    for words in ("converted on the device", "600 persistent", "-O2, library -O2 -Os", "set X"):
        assert words in page
