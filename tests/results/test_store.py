"""The results file: what was stored stays stored, whatever happens to the process, disk or file."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tinyhil.errors import StoreError, UsageError
from tinyhil.results.record import Failure
from tinyhil.results.schema import APPLICATION_ID, MIGRATIONS
from tinyhil.results.store import Store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.db"


def test_a_record_comes_back_as_it_was_stored(path, make) -> None:
    record = make(samples=(5, 3, 9, 3))
    with Store.open(path) as store:
        store.add(record)
    with Store.open(path, readonly=True) as store:
        assert store.query() == [record]


def test_the_time_is_filled_in_where_the_record_has_none(path, make) -> None:
    with Store.open(path) as store:
        store.add(make(created=""))
        assert store.query()[0].created.endswith("+00:00")


def test_a_failed_run_is_a_record_too(path, make) -> None:
    failed = make(error=Failure("DoesNotFit", "needs 400 KiB"), instructions=None, peak_ram=None)
    with Store.open(path) as store:
        store.add(failed)
        assert store.query() == [failed]


def test_queries_narrow_by_network_board_engine_mode_and_revision(path, make) -> None:
    with Store.open(path) as store:
        store.add_all(
            [
                make("kws", "tinyengine"),
                make("kws", "tflm"),
                make("vww", "tflm", mode="hardware"),
                make("vww", "tflm", "nucleo-l4r5zi", provenance={"git": "beef01"}),
            ]
        )
        names = [(r.model.name, r.engine.name, r.board) for r in store.query(model="vww", engine="tflm")]
        assert names == [("vww", "tflm", "stm32f746"), ("vww", "tflm", "nucleo-l4r5zi")]
        assert len(store.query(mode="hardware")) == 1
        assert [r.board for r in store.query(revision="beef")] == ["nucleo-l4r5zi"]
        assert store.query(revision="be_f") == []
        assert store.query(board="stm32f746' OR 1=1 --") == []


def test_latest_gives_the_newest_record_of_each_network_board_engine_and_mode(path, make) -> None:
    with Store.open(path) as store:
        for flash in (3, 2, 1):
            store.add_all([make("kws", flash=flash), make("vww", flash=10 * flash)])
        assert [(r.model.name, r.flash) for r in store.latest()] == [("kws", 1), ("vww", 10)]
        assert [r.flash for r in store.query(model="kws", limit=2)] == [2, 1]


def test_what_was_measured_already_is_found_by_its_firmware(path, make) -> None:
    known = make(flash=1, provenance={"build_id": "aa"})
    failed = make(error=Failure("NoAnswer", "silent"), provenance={"build_id": "bb"})
    with Store.open(path) as store:
        store.add_all([make(provenance={"build_id": "aa"}), known, failed])
        assert store.find("aa", "qemu") == known
        assert store.find("aa", "hardware") is None
        assert store.find("bb", "qemu") is None


def test_a_baseline_keeps_its_records_when_newer_ones_arrive(path, make) -> None:
    with Store.open(path) as store:
        old = store.add_all([make("kws", flash=1), make("vww", flash=2)])
        store.save_baseline("main", old)
        store.add(make("kws", flash=9))
        assert [r.flash for r in store.baseline("main")] == [1, 2]
        store.save_baseline("main", old[:1])
        assert [(b.name, b.records) for b in store.baselines()] == [("main", 1)]


def test_an_unknown_baseline_says_which_are_known(path, make) -> None:
    with Store.open(path) as store:
        store.save_baseline("main", [store.add(make())])
        with pytest.raises(UsageError, match=r"'mian'.*saved: main"):
            store.baseline("mian")
        with pytest.raises(StoreError, match="at least one record"):
            store.save_baseline("empty", [])
        with pytest.raises(StoreError, match="not in"):
            store.save_baseline("ghost", [99])
        assert [b.name for b in store.baselines()] == ["main"]


def test_equal_builds_and_environments_are_stored_once(path, make) -> None:
    with Store.open(path) as store:
        store.add_all([make(), make(flash=1), make(provenance=make().provenance | {"flags": "-O3"})])
    tables = sqlite3.connect(path)
    assert tables.execute("SELECT count(*) FROM builds").fetchone() == (2,)
    assert tables.execute("SELECT count(*) FROM environments").fetchone() == (1,)
    tables.close()


def test_several_records_are_stored_all_or_none(path, make) -> None:
    unfit = replace(make(), flash=float("nan"))  # type: ignore[arg-type]
    with Store.open(path) as store:
        with pytest.raises(ValueError, match="JSON"):
            store.add_all([make(), unfit])
        assert len(store) == 0


def test_threads_may_share_a_store(path, make) -> None:
    with Store.open(path) as store, ThreadPoolExecutor(8) as pool:
        identities = list(pool.map(lambda n: store.add(make(flash=n)), range(40)))
        assert sorted(r.flash for r in store.query()) == list(range(40))
    assert len(set(identities)) == 40


WRITER = """
import json, sys
from tinyhil.results.record import Measurement
from tinyhil.results.store import Store
record = Measurement.from_json(json.load(sys.stdin))
print("ready", flush=True)
for n in range(int(sys.argv[2])):
    with Store.open(sys.argv[1]) as store:
        store.add(record)
        print(n, flush=True)
"""


def start_writer(path, record, count) -> subprocess.Popen[bytes]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert writer.stdin is not None
    writer.stdin.write(json.dumps(record.to_json()).encode())
    writer.stdin.close()
    writer.stdin = None
    return writer


def test_processes_may_create_and_write_one_file_at_once(path, make) -> None:
    writers = [start_writer(path, make(board=f"board{n}"), 10) for n in range(4)]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors.decode()
    with Store.open(path, readonly=True) as store:
        assert len(store) == 40
        assert all(len(store.query(board=f"board{n}")) == 10 for n in range(4))


@pytest.mark.faults
def test_a_killed_process_loses_nothing_that_it_had_stored(path, make) -> None:
    writer = start_writer(path, make(), 100_000)
    assert writer.stdout is not None
    confirmed = 0
    for line in writer.stdout:
        if line.strip().isdigit():
            confirmed = int(line) + 1
        if confirmed == 15:
            break
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=60)
    with Store.open(path) as store:
        assert len(store) >= confirmed
        assert all(record == make() for record in store.query())
        store.add(make())


@pytest.mark.faults
@pytest.mark.parametrize("content", [b"not a database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_corrupted_file_is_named_and_left_as_it_is(path, content) -> None:
    path.write_bytes(content)
    for readonly in (True, False):
        with pytest.raises(StoreError, match=r"results\.db.*(corrupted|not a database)"):
            Store.open(path, readonly)
    assert path.read_bytes() == content


@pytest.mark.faults
def test_a_file_damaged_in_the_middle_is_an_error_when_it_is_read(path, make) -> None:
    with Store.open(path) as store:
        for _ in range(30):
            store.add(make())
    content = bytearray(path.read_bytes())
    content[4096 * 3 :] = b"\xa5" * (len(content) - 4096 * 3)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="left as it is"), Store.open(path, readonly=True) as store:
        store.query()
    assert path.read_bytes() == content


def test_a_file_from_a_newer_version_is_refused_and_left_as_it_is(path, make) -> None:
    with Store.open(path) as store:
        store.add(make())
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer tinyhil"):
        Store.open(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_as_it_is(path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE photos (id)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a tinyhil results file"):
        Store.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_an_older_file_is_brought_up_to_date_with_its_records(path, make, version) -> None:
    with Store.open(path) as store:
        store.add(make())
    old = path.with_name("old.db")
    tables = sqlite3.connect(old)
    for script in MIGRATIONS[:version]:
        tables.executescript(script)
    tables.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    tables.execute(f"PRAGMA user_version = {version}")
    tables.execute("ATTACH ? AS full", [str(path)])
    for table in ("builds", "environments", "measurements", "samples"):
        tables.execute(f"INSERT INTO {table} SELECT * FROM full.{table}")
    tables.commit()
    tables.close()
    with pytest.raises(StoreError, match="older file version"):
        Store.open(old, readonly=True)
    with Store.open(old) as store:
        assert store.query() == [make()]
        store.save_baseline("main", [1])


def test_a_read_only_store_reads_beside_a_writer_and_refuses_to_write(path, make) -> None:
    with Store.open(path) as writer:
        writer.add(make())
        with Store.open(path, readonly=True) as reader:
            assert len(reader) == 1
            writer.add(make())
            assert len(reader) == 2
            with pytest.raises(StoreError, match="read-only"):
                reader.add(make())


def test_a_finished_file_can_be_read_where_nothing_can_be_written(path, make, monkeypatch) -> None:
    with Store.open(path) as store:
        store.add(make())
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with Store.open(path, readonly=True) as store:
        assert store.query() == [make()]
    assert [p.name for p in path.parent.iterdir()] == ["results.db"]


def test_a_missing_file_is_not_created_by_a_reader(path) -> None:
    with pytest.raises(StoreError, match="no results file"):
        Store.open(path, readonly=True)
    assert not path.exists()


def test_a_path_that_cannot_be_a_file_is_an_error(tmp_path) -> None:
    with pytest.raises(StoreError):
        Store.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make the folder"):
        Store.open(tmp_path / "file" / "results.db")


@pytest.mark.faults
def test_a_full_disk_is_an_error_that_keeps_what_was_stored(path, make) -> None:
    with Store.open(path) as store:
        store.add(make())
    # A file-size limit is the full disk that a test may have: the kernel refuses the write.
    script = textwrap.dedent(
        """
        import json, resource, sys
        from tinyhil.errors import StoreError
        from tinyhil.results.record import Measurement
        from tinyhil.results.store import Store
        record = Measurement.from_json(json.load(sys.stdin))
        with Store.open(sys.argv[1]) as store:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            stored = 0
            try:
                while stored < 10_000:
                    store.add(record)
                    stored += 1
            except StoreError as error:
                print(stored, len(store), error)
        """
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        input=json.dumps(make().to_json()),
        capture_output=True,
        text=True,
        timeout=120,
    )
    stored, seen, message = done.stdout.split(maxsplit=2)
    assert "what was stored before is safe" in message
    assert int(stored) >= 1
    assert int(seen) == int(stored) + 1
    with Store.open(path) as store:
        assert len(store) == int(stored) + 1
        store.add(make())
