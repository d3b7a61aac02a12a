"""Records to and from files of other tools: JSON, CSV, Parquet, and pytest-benchmark's JSON.

JSON is complete and comes back as it went. CSV and Parquet are flat tables of the numbers, one row
per record. Files appear whole or not at all.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tinyhil.errors import StoreError, UsageError
from tinyhil.results.metrics import METRICS, latency
from tinyhil.results.pytest_benchmark import from_pytest_benchmark, to_pytest_benchmark
from tinyhil.results.record import EngineId, Measurement, Model

if TYPE_CHECKING:
    import pandas as pd


def write_json(path: str | Path, records: Iterable[Measurement]) -> None:
    """A list of records, schema `tinyhil/1`."""
    _write_text(path, json.dumps([record.to_json() for record in records], indent=1, allow_nan=False))


def read_json(path: str | Path) -> list[Measurement]:
    """Records from `write_json` or from `write_pytest_benchmark`; StoreError says what is wrong."""
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is not JSON: {error}") from error
    if isinstance(content, dict) and "benchmarks" in content:
        content = from_pytest_benchmark(content, str(path))
    if not isinstance(content, list):
        raise StoreError(f"{path} holds no list of records; it should come from --json or `tinyhil export`")
    records = []
    for number, item in enumerate(content):
        try:
            records.append(Measurement.from_json(item))
        except StoreError as error:
            raise StoreError(f"{path}, record {number}: {error}") from error
    return records


def to_frame(records: Iterable[Measurement]) -> pd.DataFrame:
    """One row per record and one column per number; measured, counted and estimated stay apart."""
    import pandas as pd  # slow to import, and seldom needed

    records = list(records)
    keys = sorted({key for record in records for key in record.provenance})
    columns = [*_row(_NOTHING), *(f"provenance.{key}" for key in keys)]
    return pd.DataFrame([_row(record) for record in records], columns=columns)


def write_csv(path: str | Path, records: Iterable[Measurement]) -> None:
    """`to_frame` as CSV. Texts that a spreadsheet would run as a formula get a leading apostrophe."""
    frame = to_frame(records)
    for column in frame.columns:
        frame[column] = frame[column].map(spreadsheet_safe)
    _write(Path(path), lambda file: frame.to_csv(file, index=False, lineterminator="\n"))


def write_parquet(path: str | Path, records: Iterable[Measurement]) -> None:
    """`to_frame` as Parquet; UsageError if pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: pip install 'tinyhil[parquet]', or export CSV") from error
    frame = to_frame(records).convert_dtypes()
    _write(Path(path), lambda file: frame.to_parquet(file, engine="pyarrow", index=False))


def write_pytest_benchmark(path: str | Path, records: Iterable[Measurement]) -> None:
    """pytest-benchmark's JSON, so that its `compare` and viewers work; see pytest_benchmark.py."""
    _write_text(path, json.dumps(to_pytest_benchmark(records), indent=1, allow_nan=False))


def spreadsheet_safe(value: object) -> object:
    """`value`, or for a text that begins like a formula the same text behind an apostrophe."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value


def _row(record: Measurement) -> dict[str, Any]:
    wait = latency(record)
    row: dict[str, Any] = {
        "model": record.model.name,
        "model_sha256": record.model.sha256,
        "macs": record.model.macs,
        "params": record.model.params,
        "engine": record.engine.name,
        "engine_version": record.engine.version,
        "board": record.board,
        "mode": record.mode,
        "kind": record.kind,
        "clock_hz": record.clock_hz,
        **{name: metric.of(record) for name, metric in METRICS.items()},
        "cycles_est_low": record.cycles_est.low if record.cycles_est else None,
        "cycles_est_high": record.cycles_est.high if record.cycles_est else None,
        "timing_model": record.cycles_est.model if record.cycles_est else None,
        "latency_measured_s": wait.seconds if wait and wait.kind == "measured" else None,
        "latency_estimated_s": wait.seconds if wait and wait.kind == "estimated" else None,
        "planned_arena": record.peak_ram.planned_arena if record.peak_ram else None,
        "bit_exact": record.correct.bit_exact if record.correct else None,
        "max_abs_diff": record.correct.max_abs_diff if record.correct else None,
        "reference": record.correct.reference if record.correct else None,
        "output_sha256": record.correct.output_sha256 if record.correct else None,
        "samples": len(record.samples),
        "error": record.error.code if record.error else None,
        "error_message": record.error.message if record.error else None,
        "created": record.created,
    }
    return row | {f"provenance.{key}": value for key, value in record.provenance.items()}


_NOTHING = Measurement(Model("", "", 0, 0), EngineId("", ""), "", "native", "counted", 0)


def _write_text(path: str | Path, text: str) -> None:
    _write(Path(path), lambda file: file.write(text.encode() + b"\n"))


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write beside the target and move it there, so that a kill leaves the old file or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
