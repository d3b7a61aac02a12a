"""The rows counted through kits are written from records, not typed."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from tinyhil.errors import UsageError
from tinyhil.results.record import Correctness, EngineId, Failure, Measurement, Model, PeakRam
from tinyhil.results.reference import rows

SHIPPED = Path(rows.__file__).parent / "peers_kits.csv"
RECORD = Measurement(
    model=Model("kws", "ab" * 32, 2_000, 10),
    engine=EngineId("tflm", "1"),
    board="stm32f746",
    mode="qemu",
    kind="counted",
    clock_hz=1,
    instructions=9_000,
    peak_ram=PeakRam(700, 100, 500, 100, planned_arena=500),
    flash=4_000,
    correct=Correctness(True, 0, "tflite-micro", "00"),
    provenance={
        "flags": "-mthumb -mcpu=cortex-m7 -O2",
        "library": "tflm",
        "library_flags": "-O2 -Os -mthumb",
        "library_kernels": "cmsis-nn",
        "arena_needed": "450",
        "arena_persistent": "150",
        "arena_non_persistent": "300",
    },
)


def written(*records: Measurement) -> list[dict[str, str]]:
    out = io.StringIO()
    rows.write_rows(records, out)
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def test_a_record_becomes_a_row_of_the_shipped_table() -> None:
    (row,) = written(RECORD, RECORD)
    with SHIPPED.open() as file:
        assert list(row) == csv.DictReader(file).fieldnames
    assert (row["core"], row["instructions"], row["ram"], row["flash"]) == (
        "cortex-m7",
        "9000",
        "700",
        "4000",
    )
    assert (row["arena"], row["model_sha256"]) == ("450", "ab" * 6)
    assert row["note"] == "library -O2 -Os; cmsis-nn kernels; arena persistent 150, else 300"


def test_an_engine_without_a_library_is_no_row() -> None:
    assert written(replace(RECORD, provenance={})) == []


@pytest.mark.parametrize(
    "wrong",
    [
        replace(RECORD, correct=Correctness(False, 3, "tflite-micro", "00")),
        replace(RECORD, error=Failure("MissingTool", "no kit"), provenance={}),
        replace(RECORD, instructions=None),
    ],
)
def test_what_is_no_good_measurement_is_refused(wrong: Measurement) -> None:
    with pytest.raises(UsageError, match="kws by tflm"):
        written(wrong)


def test_the_shipped_rows_are_exact_and_of_both_cores() -> None:
    with SHIPPED.open() as file:
        shipped = list(csv.DictReader(file))
    assert {row["bit_exact"] for row in shipped} == {"yes"}
    for engine in ("cmsis-nn", "cmsis-nn+passes", "tflm"):
        networks = {core: {r["network"] for r in shipped if (r["engine"], r["core"]) == (engine, core)}
                    for core in ("cortex-m4", "cortex-m7")}  # fmt: skip
        assert networks["cortex-m4"] == networks["cortex-m7"]
        assert len(networks["cortex-m7"]) == 7
