"""A record is what travels between machines: it comes back as it went, and damage is named."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import StoreError
from tinyhil.results.record import (
    Correctness,
    EngineId,
    Estimate,
    Failure,
    LayerResult,
    Measurement,
    Model,
    PeakRam,
    PlannedBuffer,
)

counts = st.integers(0, 2**63 - 1)
numbers = st.floats(0, 1e15, allow_nan=False)
words = st.text(max_size=20)
estimates = st.builds(Estimate, numbers, numbers, numbers, words)

measurements = st.builds(
    Measurement,
    model=st.builds(Model, words, words, counts, counts),
    engine=st.builds(EngineId, words, words),
    board=words,
    mode=st.sampled_from(["hardware", "qemu", "native"]),
    kind=st.sampled_from(["measured", "counted", "estimated"]),
    clock_hz=counts,
    instructions=st.none() | counts,
    cycles=st.none() | counts,
    cycles_est=st.none() | estimates,
    peak_ram=st.none() | st.builds(PeakRam, counts, counts, counts, counts, st.none() | counts),
    flash=st.none() | counts,
    correct=st.none() | st.builds(Correctness, st.booleans(), counts, words, words),
    layers=st.lists(
        st.builds(
            LayerResult, words, words, counts, cycles_est=st.none() | estimates, traffic=st.none() | counts
        ),
        max_size=3,
    ).map(tuple),
    memory=st.lists(st.builds(PlannedBuffer, words, counts, counts, counts, counts, words), max_size=3).map(
        tuple
    ),
    samples=st.lists(counts, max_size=5).map(tuple),
    provenance=st.dictionaries(words, words, max_size=4),
    error=st.none() | st.builds(Failure, words, words),
    created=words,
)


@settings(max_examples=60)
@given(measurements)
def test_a_record_comes_back_from_json_as_it_went(record: Measurement) -> None:
    assert Measurement.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_unknown_fields_are_ignored_so_that_records_may_grow(make) -> None:
    data = make().to_json() | {"energy_uj": 12}
    data["model"]["licence"] = "MIT"
    assert Measurement.from_json(data) == make()


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("cycles_est", "low"), "fast", "record.cycles_est.low"),
        (("cycles_est", "value"), math.nan, "record.cycles_est.value"),
        (("flash",), "54 kB", "record.flash"),
        (("instructions",), True, "record.instructions"),
        (("layers",), {"a": 1}, "record.layers"),
        (("layers", 2, "macs"), None, r"record.layers\[2\].macs"),
        (("samples", 0), 1.5, r"record.samples\[0\]"),
        (("provenance", "flags"), ["-O2"], "record.provenance.flags"),
        (("correct",), [], "record.correct"),
        (("samples", 0), 2**63, r"record.samples\[0\]"),
        (("board",), "\ud800", "record.board"),
        (("kind",), "guessed", "guessed"),
        (("schema",), "tinyhil/9", "tinyhil/9"),
    ],
)
def test_a_damaged_field_is_named(make, path, value, named) -> None:
    data = json.loads(json.dumps(make().to_json()))
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(StoreError, match=named):
        Measurement.from_json(data)


def test_a_missing_field_is_named(make) -> None:
    data = make().to_json()
    del data["model"]["sha256"]
    with pytest.raises(StoreError, match=r"record\.model\.sha256 is missing"):
        Measurement.from_json(data)


@pytest.mark.parametrize("data", [None, [], "x", 3])
def test_something_that_is_no_object_is_refused(data) -> None:
    with pytest.raises(StoreError, match="not an object"):
        Measurement.from_json(data)
