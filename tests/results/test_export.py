"""Records reach other tools whole, and never as something that they are not."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from tinyhil.errors import StoreError, UsageError
from tinyhil.results.export import (
    read_json,
    to_frame,
    write_csv,
    write_json,
    write_parquet,
    write_pytest_benchmark,
)
from tinyhil.results.record import EngineId, Failure


@pytest.fixture
def records(make):
    failed = make("big", error=Failure("DoesNotFit", "needs 400 KiB"), instructions=None, cycles_est=None)
    return [make(), make("vww", "tflm", mode="hardware"), failed]


def test_json_comes_back_as_it_went(tmp_path, records) -> None:
    write_json(tmp_path / "out" / "records.json", records)
    assert read_json(tmp_path / "out" / "records.json") == records


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "no list of records"),
        ('[{"schema": "tinyhil/1"}]', r"record 0: record\.model is missing"),
        ('{"benchmarks": [{"stats": {}}]}', "not exported by tinyhil"),
        ("[null]", "record 0"),
    ],
)
def test_a_file_that_is_not_ours_is_named(tmp_path, content, message) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(StoreError, match=rf"other\.json.*{message}"):
        read_json(path)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(StoreError, match=r"none\.json"):
        read_json(tmp_path / "none.json")


def test_csv_has_one_row_per_record_and_keeps_the_kinds_of_latency_apart(tmp_path, records) -> None:
    write_csv(tmp_path / "records.csv", records)
    with (tmp_path / "records.csv").open(newline="") as file:
        counted, measured, failed = csv.DictReader(file)
    assert counted["latency_measured_s"] == ""
    assert float(counted["latency_estimated_s"]) > 0
    assert counted["cycles"] == ""
    assert float(measured["latency_measured_s"]) > 0
    assert measured["latency_estimated_s"] == ""
    assert (failed["error"], failed["latency_estimated_s"]) == ("DoesNotFit", "")
    assert counted["provenance.flags"] == "'-O2 -mcpu=cortex-m7"


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_a_name_that_a_spreadsheet_would_run_is_only_text_in_csv(tmp_path, make, name) -> None:
    write_csv(tmp_path / "records.csv", [make(name)])
    with (tmp_path / "records.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["model"] == "'" + name


def test_parquet_keeps_types_and_gaps(tmp_path, records) -> None:
    pytest.importorskip("pyarrow", reason="pip install 'tinyhil[parquet]'")
    write_parquet(tmp_path / "records.parquet", records)
    frame = pd.read_parquet(tmp_path / "records.parquet")
    assert frame["model"].tolist() == ["mlperf_kws", "vww", "big"]
    assert frame["instructions"].dtype == "Int64"
    assert frame["instructions"].isna().tolist() == [False, True, True]


def test_without_pyarrow_the_user_learns_how_to_get_it(tmp_path, records, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"tinyhil\[parquet\]"):
        write_parquet(tmp_path / "records.parquet", records)
    assert list(tmp_path.iterdir()) == []


def test_no_records_are_an_empty_table_with_all_columns(tmp_path) -> None:
    assert len(to_frame([])) == 0
    assert "peak_ram" in to_frame([]).columns


def test_pytest_benchmarks_shape_says_what_its_numbers_are_and_comes_back(tmp_path, records) -> None:
    path = tmp_path / "bench.json"
    write_pytest_benchmark(path, records)
    content = json.loads(path.read_text())
    counted, measured = content["benchmarks"]
    assert counted["group"] == "stm32f746 qemu, seconds (estimated)"
    assert counted["stats"]["median"] == pytest.approx(records[0].cycles_est.value / 216e6)
    assert measured["group"] == "stm32f746 hardware, seconds (measured)"
    assert measured["stats"]["rounds"] == 3
    assert read_json(path) == records[:2]


def test_a_count_alone_is_not_passed_off_as_seconds(tmp_path, make) -> None:
    path = tmp_path / "bench.json"
    write_pytest_benchmark(path, [make(cycles_est=None, samples=(10, 12, 14))])
    benchmark = json.loads(path.read_text())["benchmarks"][0]
    assert benchmark["extra_info"]["unit"] == "instructions (counted)"
    assert benchmark["stats"]["median"] == 12
    assert benchmark["stats"]["data"] == [10, 12, 14]


def test_pytest_benchmark_itself_can_compare_the_file(tmp_path, records) -> None:
    pytest.importorskip("pytest_benchmark", reason="pip install 'tinyhil[test]'")
    write_pytest_benchmark(tmp_path / "0001_x.json", records)
    command = [sys.executable, "-m", "pytest_benchmark", "compare", "0001_x.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mlperf_kws[stm32f746-tinyengine]" in done.stdout


@pytest.mark.faults
def test_a_failed_write_leaves_the_old_file(tmp_path, make) -> None:
    path = tmp_path / "records.json"
    write_json(path, [make()])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, [make(clock_hz=float("inf"))])
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="folder"):
        write_json(tmp_path / "folder", [make()])
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "records.json"]


def test_writers_of_one_file_do_not_mix(tmp_path, make) -> None:
    path = tmp_path / "records.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: write_json(path, [make(engine=f"e{n}")] * 20), range(16)))
    assert {r.engine for r in read_json(path)} in [{EngineId(f"e{n}", "1.0")} for n in range(16)]
