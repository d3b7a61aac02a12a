"""Sweeps with the real compiler and emulator: resumed, sharded, killed, failing, on dying workers."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tinyhil.errors import BenchError
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import Settings
from tinyhil.harness.sweep import workers as seam
from tinyhil.harness.sweep.plan import Item, read_plan
from tinyhil.harness.sweep.progress import Reporter
from tinyhil.harness.sweep.sweep import Outcome, Sweep
from tinyhil.harness.sweep.workers import open_workers
from tinyhil.results.export import write_csv

PLAN = 'boards = ["{boards}"]\nengines = ["tinyengine"]\n[layers]\nkinds = ["Add", "Relu"]\ncount = {count}\n'


# 200 took four minutes on two busy cores: TINYHIL_TEST_MEASUREMENTS=200
MEASUREMENTS = int(os.environ.get("TINYHIL_TEST_MEASUREMENTS", "24"))


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "tinyhil", "sweep", "plan.toml", *words]


def sweep(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *words), cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def plan(folder: Path, count: int, boards: str = "stm32f746") -> Path:
    (folder / "plan.toml").write_text(PLAN.format(count=count, boards=boards))
    return folder / "plan.toml"


def rows(folder: Path) -> list[tuple[str, ...]]:
    with sqlite3.connect(folder / ".tinyhil" / "results.db") as connection:
        return connection.execute("SELECT model, error FROM measurements ORDER BY model").fetchall()


def test_a_second_sweep_measures_nothing_and_gives_the_same_table(tmp_path: Path) -> None:
    plan(tmp_path, 2)
    first = sweep(tmp_path, "--csv", "one.csv", "-j", "2")
    assert first.returncode == 0, first.stderr
    assert "4 items: 4 measured" in first.stdout
    assert "[4/4]" in first.stderr
    assert re.search(r"[0-9.]+ s wall time, 4 at [0-9.]+/s built, 4 at [0-9.]+/s run\n", first.stdout)
    second = sweep(tmp_path, "--csv", "two.csv")
    assert re.search(r"4 items: 4 known\n[0-9.]+ s wall time\n$", second.stdout)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert len(rows(tmp_path)) == 4


def test_shards_together_are_the_whole(tmp_path: Path) -> None:
    plan(tmp_path, 2)
    parts = [sweep(tmp_path, "--subset", f"{part}/2", "--dry-run").stdout.split("\n") for part in (1, 2)]
    whole = sweep(tmp_path, "--dry-run").stdout.split("\n")
    assert sorted(line for part in parts for line in part if line) == sorted(line for line in whole if line)


def test_a_sweep_killed_at_any_moment_goes_on_and_has_everything_once(tmp_path: Path) -> None:
    plan(tmp_path, 4)
    with subprocess.Popen(
        command(tmp_path, "-j", "2"), cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("[3/8]"):
                break
        os.killpg(process.pid, signal.SIGKILL)
        process.stderr.close()
    before = rows(tmp_path)
    assert 3 <= len(before) < 8
    done = sweep(tmp_path, "-j", "2")
    assert done.returncode == 0, done.stderr
    assert f"{8 - len(before)} measured, {len(before)} known" in done.stdout
    after = rows(tmp_path)
    assert len(after) == len(set(after)) == 8


def test_an_engine_whose_kit_is_missing_stops_no_other(tmp_path: Path) -> None:
    text = plan(tmp_path, 1).read_text().replace('"tinyengine"', '"cmsis-nn", "tinyengine"')
    (tmp_path / "plan.toml").write_text(text)
    done = sweep(tmp_path)
    assert done.returncode == 10, done.stderr
    assert "4 items: 2 measured, 2 left to do, the bench failed" in done.stdout
    assert "MissingTool × 2" in done.stdout


def test_failures_keep_their_first_cause_and_are_not_repeated_silently(tmp_path: Path) -> None:
    plan(tmp_path, 1)
    first = sweep(tmp_path, "--timeout", "0.001")
    assert first.returncode == 1
    assert "NoAnswer × 2, first add_0" in first.stdout
    again = sweep(tmp_path)
    assert again.returncode == 1
    assert "2 failed" in again.stdout
    assert "--retry-failed tries again" in again.stdout
    assert len(rows(tmp_path)) == 2
    retried = sweep(tmp_path, "--retry-failed")
    assert retried.returncode == 0, retried.stderr
    assert "2 measured" in retried.stdout
    assert "2 known" in sweep(tmp_path).stdout


def test_a_broken_model_does_not_stop_the_others(tmp_path: Path) -> None:
    path = plan(tmp_path, 1, boards="native")
    (tmp_path / "bad.tflite").write_bytes(b"not a model")
    path.write_text('networks = ["bad.tflite"]\n' + path.read_text())
    done = sweep(tmp_path)
    assert done.returncode == 1
    assert "3 items: 2 measured, 1 failed" in done.stdout
    assert "MalformedModel × 1, first bad" in done.stdout


def test_an_unknown_executor_is_refused(tmp_path: Path) -> None:
    plan(tmp_path, 1)
    done = sweep(tmp_path, "--executor", "carrier-pigeon")
    assert done.returncode == 2
    assert "a Dask scheduler's address" in done.stderr


def test_a_scheduler_that_does_not_answer_is_trouble_on_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="pip install 'tinyhil[dask]'")
    monkeypatch.setattr(seam, "CONNECT_SECONDS", 1)
    with pytest.raises(BenchError, match="no Dask scheduler answers"), open_workers("tcp://127.0.0.1:9", 1):
        pass


def swept(folder: Path, cache: Path, items: tuple[Item, ...], workers: seam.Workers) -> Outcome:
    runner = Runner(Settings(folder, cache=cache))
    return Sweep(runner, items, workers, Reporter(len(items), StringIO()), batch=8).run()


def table(folder: Path, outcome: Outcome) -> bytes:
    write_csv(folder / "table.csv", [replace(record, created="") for record in outcome.rows.values()])
    return (folder / "table.csv").read_bytes()


@pytest.mark.slow
def test_workers_killed_at_random_lose_nothing_and_change_nothing(tmp_path: Path) -> None:
    """Three of four die during the measurements; the table is the serial one, byte for byte."""
    distributed: Any = pytest.importorskip("distributed", reason="pip install 'tinyhil[dask]'")
    loaded, files = read_plan(plan(tmp_path, MEASUREMENTS // 2))
    items = loaded.items(files)
    one, many = tmp_path / "one", tmp_path / "many"
    one.mkdir()
    many.mkdir()
    with open_workers("threads", 1) as workers:
        serial = swept(one, tmp_path / "cache", items, workers)

    chance = random.Random(8)
    killed: list[int] = []

    def kill(cluster: Any, store: Path) -> None:
        """After every few records that arrive, one of the first workers dies."""
        victims = [worker.pid for worker in list(cluster.workers.values())]
        chance.shuffle(victims)
        for number, pid in enumerate(victims[:3], 1):
            while count(store) < number * MEASUREMENTS // 8 + chance.randrange(4):
                time.sleep(0.02)
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    with (
        distributed.LocalCluster(
            n_workers=4, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        open_workers(cluster.scheduler_address, 4) as workers,
    ):
        killer = threading.Thread(target=kill, args=(cluster, many / ".tinyhil" / "results.db"), daemon=True)
        killer.start()
        spread = swept(many, tmp_path / "cache", items, workers)
        killer.join(10)
    assert len(killed) == 3
    assert spread.measured == len(items) == MEASUREMENTS
    assert table(one, serial) == table(many, spread)
    assert len(rows(many)) == MEASUREMENTS


def count(store: Path) -> int:
    if not store.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM measurements").fetchone()[0])
    except sqlite3.OperationalError:  # the table is not there yet
        return 0
