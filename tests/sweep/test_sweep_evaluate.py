"""Candidates of a search, measured by any executor: the same figures, each measured once."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tinyhil.errors import BenchError
from tinyhil.harness.engine import Options
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import Settings
from tinyhil.harness.sweep.evaluate import evaluate
from tinyhil.harness.sweep.plan import Item, Source
from tinyhil.harness.sweep.workers import open_workers
from tinyhil.nas.arch import Arch
from tinyhil.nas.meter import HarnessMeter
from tinyhil.nas.size import Size
from tinyhil.nas.space import Family, Space

needs_emulator = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None,
    reason="needs apt install qemu-system-arm gcc-arm-none-eabi",
)


def candidates(count: int) -> list[Arch]:
    family = Family(stem=8, first=8, stages=((8, 2, 2), (16, 1, 1)), classes=3)
    source = random.Random(1)
    return [Space(0.5, Size(13, 6), family).sample(source) for _ in range(count)]


@needs_emulator
def test_two_dask_workers_measure_what_a_serial_search_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed", reason="pip install 'tinyhil[dask]'")
    monkeypatch.setenv("TINYHIL_CACHE", str(tmp_path / "cache"))
    archs = candidates(4)
    with open_workers("threads", 1) as workers:
        serial = HarnessMeter("stm32f746", "tinyengine", tmp_path / "one", workers)(archs)
    with open_workers("dask", 2) as workers:
        meter = HarnessMeter("stm32f746", "tinyengine", tmp_path / "two", workers)
        assert meter(archs) == serial
        assert {one.unit for one in serial} == {"cycles_est"}
        assert len({one.sample.total for one in serial}) > 1
        # A search that starts again with its results lost: the store knows them by content.
        for file in (tmp_path / "two").glob("*.jsonl"):
            file.unlink()
        capsys.readouterr()
        again = HarnessMeter("stm32f746", "tinyengine", tmp_path / "two", workers)
        assert again(archs) == serial
    assert "none to build" in capsys.readouterr().err


def test_a_candidate_without_a_good_record_stops_the_search_and_the_others_are_kept(tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"not a model")
    items = [
        Item(source, "tinyengine", "native", Options())
        for source in (Source(kind="Add", seed=1), Source(str(tmp_path / "bad.tflite")))
    ]
    runner = Runner(Settings(tmp_path, cache=tmp_path / "cache"))
    with (
        open_workers("threads", 1) as workers,
        pytest.raises(BenchError, match="1 of 2 not measured: MalformedModel × 1, first bad"),
    ):
        evaluate(items, runner, workers)
    assert len(runner.store.by_build()) == 1
