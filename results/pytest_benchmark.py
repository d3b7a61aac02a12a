"""Records in the shape of pytest-benchmark's JSON, and back. Pure.

`stats` hold seconds where the latency is measured or estimated, and instructions where they were
only counted; group and `extra_info.unit` say which. `extra_info.tinyhil` holds the whole record.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tinyhil.errors import StoreError
from tinyhil.results.metrics import latency
from tinyhil.results.record import Measurement


def to_pytest_benchmark(records: Iterable[Measurement]) -> dict[str, Any]:
    """One benchmark per record that has a time or a count; records of errors are left out."""
    records = list(records)
    return {
        "machine_info": {},
        "commit_info": {"id": next((r.provenance["git"] for r in records if "git" in r.provenance), "")},
        "benchmarks": [item for record in records if (item := _benchmark(record)) is not None],
        "datetime": max((record.created for record in records), default=""),
        "version": "5.1.0",
    }


def _benchmark(record: Measurement) -> dict[str, Any] | None:
    wait = latency(record)
    if wait is not None and record.cycles is not None:
        unit, values = "seconds (measured)", [n / record.clock_hz for n in record.samples or (record.cycles,)]
    elif wait is not None:
        unit, values = "seconds (estimated)", [wait.seconds]
    elif record.instructions is not None:
        unit, values = "instructions (counted)", [float(n) for n in record.samples or (record.instructions,)]
    else:
        return None  # an error has no number to show
    name = f"{record.model.name}[{record.board}-{record.engine.name}]"
    return {
        "group": f"{record.board} {record.mode}, {unit}",
        "name": name,
        "fullname": name,
        "params": {"board": record.board, "engine": record.engine.name, "model": record.model.name},
        "param": f"{record.board}-{record.engine.name}",
        "extra_info": {"unit": unit, "tinyhil": record.to_json()},
        "options": {"disable_gc": False, "timer": record.kind, "warmup": False},
        "stats": _stats(values),
    }


def _stats(values: Sequence[float]) -> dict[str, Any]:
    spread = len(values) > 1
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive") if spread else [values[0]] * 3
    mean = statistics.fmean(values)
    deviation = statistics.stdev(values) if spread else 0.0
    fences = (q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1))
    outliers_iqr = sum(not fences[0] <= value <= fences[1] for value in values)
    outliers_deviation = sum(abs(value - mean) > deviation for value in values)
    return {
        "min": min(values),
        "max": max(values),
        "mean": mean,
        "stddev": deviation,
        "rounds": len(values),
        "iterations": 1,
        "median": median,
        "q1": q1,
        "q3": q3,
        "iqr": q3 - q1,
        "iqr_outliers": outliers_iqr,
        "stddev_outliers": outliers_deviation,
        "outliers": f"{outliers_deviation};{outliers_iqr}",
        "ld15iqr": min(value for value in values if value >= fences[0]),
        "hd15iqr": max(value for value in values if value <= fences[1]),
        "ops": 1 / mean if mean else 0.0,
        "total": sum(values),
        "data": list(values),
    }


def from_pytest_benchmark(content: Mapping[str, Any], where: str = "content") -> list[Any]:
    """The records inside a file of `to_pytest_benchmark`, as JSON; StoreError for any other file."""
    try:
        return [item["extra_info"]["tinyhil"] for item in content["benchmarks"]]
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{where}: pytest-benchmark's JSON, but not exported by tinyhil: extra_info.tinyhil is missing,"
            " and a time alone does not say on which board and how it was taken"
        ) from error
