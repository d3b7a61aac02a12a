"""One fault after another, each through the command line a user types: message, exit code, store, time.

After each, the fault is taken away, and the board must be usable again.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_faults import BENCH, FAULTS, HEALTHY, Fault
from bench_injections import Bench
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parent.parent / "faces"))

from tiny import tiny_tflite

from tinyhil.cli import cli
from tinyhil.harness.bench.lock import release
from tinyhil.harness.bench.map import Place, write_map
from tinyhil.results.store import Store

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(
        shutil.which("arm-none-eabi-gcc") is None, reason="needs apt install gcc-arm-none-eabi"
    ),
]

GRACE = 20.0  # healthy measurements or seconds for everything around it: bounded is what is asked, not fast
PACE = [1.0]  # seconds that the last healthy measurement took: how busy the machine is


@pytest.fixture
def bench(
    plug_in: Callable[..., Any], tmp_path: Path, firmware_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """A healthy bench of one board, and a project with one network."""
    _, board = plug_in("T1")
    (tmp_path / "tiny.tflite").write_bytes(tiny_tflite())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYHIL_CACHE", str(firmware_cache))
    monkeypatch.setenv("TINYHIL_LOCK_TIMEOUT", "0.5")
    place = {"probe": "T1", "serial": board.port}

    def write_the_map() -> None:
        places = [Place(f"board-{place['probe']}", "stm32f746", place["probe"], place["serial"],
                        tuple(place.get("power", ())), emulated=True,
                        transport=place.get("transport", ""))]  # fmt: skip
        if "second" in place:
            places.append(place["second"])
        Path("tinyhil-map.toml").write_text(write_map(places))

    def run(timeout: float = 60.0) -> Result:
        write_the_map()
        return CliRunner().invoke(
            cli,
            ["run", "tiny.tflite", "--board", "stm32f746", "--timeout", str(timeout)],
            standalone_mode=False,
        )

    made = Bench(board, place, tmp_path, monkeypatch, plug_in, write_the_map, run)
    _build_once(made, firmware_cache)
    yield made
    for undo in made.undo:
        undo()


def _build_once(bench: Bench, cache: Path) -> None:
    """Compiling is not what the faults are given their seconds for."""
    if not (cache / "faults-are-built").exists():
        assert exit_code(bench.run()) == HEALTHY
        build_id = records()[0].provenance["build_id"]
        shutil.rmtree(bench.project / ".tinyhil")
        bench.board.poke(0x0800_0000, b"\xff" * 0x10_0000)
        (cache / "faults-are-built").write_text(build_id)
    bench.elf = cache / "firmware" / (cache / "faults-are-built").read_text() / "firmware.elf"


def exit_code(result: Result) -> int:
    if isinstance(result.exception, SystemExit) or result.exception is None:
        return result.exit_code
    raise result.exception


def records() -> list[Any]:
    path = Path(".tinyhil/results.db")
    return Store.open(path).query() if path.exists() else []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault: Fault, bench: Bench, monkeypatch: pytest.MonkeyPatch, fault_table: list[Any]) -> None:
    with monkeypatch.context() as patch:
        bench.patch = patch
        bench.place["transport"] = fault.transport
        fault.inject(bench)
        before = len(records())
        began = time.monotonic()
        timeout = fault.timeout(PACE[-1])
        result = bench.run(timeout)
        took = time.monotonic() - began
    code = exit_code(result)
    said = result.stderr.strip().splitlines()[-1] if code else "measured, bit-exact"
    fault_table.append((fault.name, code, f"{took:.1f} s", said))

    assert code == fault.exit_code, result.output
    assert re.search(fault.words, result.stderr), result.stderr
    assert took < timeout + GRACE * max(1.0, PACE[-1])
    new = records()[before:]
    if code == BENCH:
        assert new == []  # nothing was learned of the network
    elif code == HEALTHY:
        assert [record.correct.bit_exact for record in new] == [True]
    else:
        assert [record.error.code for record in new] == ["HardFault"]

    heal(bench, fault, told="is out of use until" in said)
    began = time.monotonic()
    after = bench.run()
    PACE.append(time.monotonic() - began)
    assert exit_code(after) == HEALTHY, after.output


def heal(bench: Bench, fault: Fault, told: bool) -> None:
    """Takes the fault away, and the board out of quarantine: it is there if, and only if, the user was
    told. On a slow machine time may end before the ladder does, and then it is not."""
    bench.faults.clear()
    for undo in bench.undo:
        undo()
    bench.undo.clear()
    if fault.name.startswith("serial port"):
        _, bench.board = bench.plug_in("T9")  # the bridge comes back under another name
        bench.place["probe"] = "T9"
        bench.place["serial"] = bench.board.port
        return
    was = release(Place("board-T1", "stm32f746", "T1"))
    assert (was is not None) == told, was
    assert fault.kept or not told
