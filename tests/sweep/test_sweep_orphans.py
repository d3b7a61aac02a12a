"""A killed sweep leaves no process behind: that of the reference kernels ends with its parent."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinyhil.harness.model import oracle

PROGRAM = """
import time
from tinyhil.harness.model import oracle, write_tflite
from tinyhil.harness.model.random_graphs import random_layer

if __name__ == "__main__":
    graph = random_layer("Add", 1)
    oracle.reference_for(write_tflite(graph), graph)
    print(*oracle._apart()._processes, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(not oracle.has_tflm(), reason="needs TFLM: pip install 'tinyhil[oracle]'")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in Linux's /proc")
def test_the_reference_kernels_leave_ctrl_c_to_their_parent_and_end_with_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [sys.executable, str(tmp_path / "program.py")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        child = Path("/proc") / process.stdout.readline().strip()
        assert runs(child)
        assert ignores(child, signal.SIGINT)
        process.kill()
    end = time.monotonic() + 30
    while runs(child) and time.monotonic() < end:
        time.sleep(0.1)
    assert not runs(child)


def ignores(process: Path, number: int) -> bool:
    """Whether it ignores signal `number`."""
    mask = next(line for line in (process / "status").read_text().splitlines() if line.startswith("SigIgn"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


def runs(process: Path) -> bool:
    """Whether it is there and no zombie."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
