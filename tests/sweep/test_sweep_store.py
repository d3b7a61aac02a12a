"""What sweeps ask of the store: one good record per firmware and mode, looked up in bulk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tinyhil.results.record import EngineId, Failure, Measurement, Model
from tinyhil.results.store import Store


def record(build: str, mode: str = "qemu", error: str = "") -> Measurement:
    return Measurement(
        Model("net", "00", 1, 1),
        EngineId("tinyengine", "1"),
        "stm32f746",
        mode,
        "counted",
        216_000_000,
        instructions=None if error else 5,
        provenance={"build_id": build, "git": "abc"},
        error=Failure(error, "words") if error else None,
    )


def test_many_writers_at_once_store_one_good_record_per_firmware_and_mode(tmp_path: Path) -> None:
    wanted = [record(build, mode) for build in "ab" for mode in ("qemu", "native")] * 6

    def write(one: Measurement) -> int:
        with Store.open(tmp_path / "results.db") as store:
            return store.add_once(one)

    with ThreadPoolExecutor(6) as threads:
        ids = list(threads.map(write, wanted))
    with Store.open(tmp_path / "results.db") as store:
        assert len(store) == 4
        assert {(one.provenance["build_id"], one.mode): i for one, i in zip(wanted, ids, strict=True)} == (
            store.by_build()
        )


def test_a_failure_does_not_stand_in_the_way_of_a_good_record(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db") as store:
        first = store.add_once(record("a", error="NoAnswer"))
        assert store.by_build() == {}
        assert store.by_build(failed=True) == {("a", "qemu"): first}
        good = store.add_once(record("a"))
        assert store.by_build() == {("a", "qemu"): good}
        assert good == store.add_once(replace(record("a"), instructions=6))


def test_records_come_back_by_id(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db") as store:
        ids = store.add_all([record("a"), record("b"), record("c")])
        found = store.records([ids[2], ids[0], 999])
        assert {i: one.provenance["build_id"] for i, one in found.items()} == {ids[0]: "a", ids[2]: "c"}
