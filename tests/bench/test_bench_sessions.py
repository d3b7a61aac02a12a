"""Whole sessions over emulated boards that live in another process, as real boards do."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinyhil.results.store import Store

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "faces"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("unicorn") is None or shutil.which("arm-none-eabi-gcc") is None,
        reason="needs pip install unicorn and apt install gcc-arm-none-eabi",
    ),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two emulated boards; the folder with their map."""
    folder = tmp_path_factory.mktemp("bench")
    server = subprocess.Popen(
        [sys.executable, str(HERE / "twin" / "twin_server.py"), str(folder), "2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    with server, server.stdin, server.stdout:
        assert server.stdout.readline().startswith(b"ready")
        yield folder
        server.stdin.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's project with two small networks."""
    from tiny import tiny_tflite

    for seed in (1, 2):
        (tmp_path / f"tiny{seed}.tflite").write_bytes(tiny_tflite(seed=seed))
    return tmp_path


def environment(bench: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(HERE / "twin"), os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "TINYHIL_TWINS": str(bench),
        "TINYHIL_LOCKS": str(bench / "locks"),
        "TINYHIL_MAP": str(bench / "tinyhil-map.toml"),
        "TINYHIL_CACHE": str(bench / "cache"),
        "TINYHIL_LOCK_TIMEOUT": "600",
    }


def pytest_in(project: Path, bench: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", ".", "-c", os.devnull]
    command += ["--board=stm32f746", "--hil-map", str(bench / "tinyhil-map.toml"), *options, "."]
    return subprocess.run(
        command, cwd=project, env=environment(bench), capture_output=True, text=True, timeout=240, check=False
    )


def test_a_session_flashes_and_measures_every_network_bit_exact(project: Path, bench: Path) -> None:
    done = pytest_in(project, bench, "--hil-json", "out.json")
    assert done.returncode == 0, done.stdout + done.stderr
    records = json.loads((project / "out.json").read_text())
    assert [record["correct"]["bit_exact"] for record in records] == [True, True]
    assert {record["provenance"]["board_name"] for record in records} == {"twin-1"}


def test_what_an_emulated_board_counts_is_never_shown_as_cycles(project: Path, bench: Path) -> None:
    done = pytest_in(project, bench, "--hil-json", "out.json")
    assert "stm32f746 (emulated by unicorn)" in done.stdout
    for record in json.loads((project / "out.json").read_text()):
        assert (record["mode"], record["cycles"], record["instructions"]) == ("unicorn", None, None)
        assert record["samples"] == []
        assert "no cycles" in record["provenance"]["twin"]


def tinyhil_run(project: Path, bench: Path, networks: list[str], errors: Path) -> subprocess.Popen[bytes]:
    """`tinyhil run NETWORKS` in the background; its progress goes to the file `errors`."""
    command = [sys.executable, "-u", "-c", "from tinyhil.cli import main; main()", "run", *networks]
    command += ["--timeout", "600"]  # waiting for a board counts
    with errors.open("wb") as stream:
        return subprocess.Popen(
            [*command, "--board", "stm32f746"], cwd=project, env=environment(bench),
            stdout=subprocess.DEVNULL, stderr=stream,
        )  # fmt: skip


def stored(project: Path) -> int:
    path = project / ".tinyhil" / "results.db"
    return len(Store.open(path).query()) if path.exists() else 0


def uses(bench: Path) -> dict[str, list[tuple[float, float]]]:
    """From when to when each probe was somebody's, as the boards saw it. No one was ever refused."""
    lines = {path.stem: path.read_text().splitlines() for path in bench.glob("*.uses")}
    assert all("refused" not in text for text in lines.values())
    return {uid: [(float(a), float(b)) for a, b in map(str.split, text)] for uid, text in lines.items()}


def test_many_processes_share_two_boards_without_overlap_and_lose_nothing(project: Path, bench: Path) -> None:
    """TINYHIL_WORKERS=8 TINYHIL_JOBS=100 is the full size."""
    workers, jobs = int(os.environ.get("TINYHIL_WORKERS", "3")), int(os.environ.get("TINYHIL_JOBS", "12"))
    before = {uid: len(spans) for uid, spans in uses(bench).items()}
    shares = [jobs // workers + (number < jobs % workers) for number in range(workers)]
    runs = [
        tinyhil_run(project, bench, ["tiny1.tflite"] * share, project / f"errors{number}")
        for number, share in enumerate(shares)
    ]
    codes = [run.wait(timeout=60 * jobs) for run in runs]
    assert codes == [0] * workers, [(project / f"errors{number}").read_text() for number in range(workers)]

    records = Store.open(project / ".tinyhil" / "results.db").query()
    assert [record.correct.bit_exact for record in records if record.correct] == [True] * jobs
    spans = {uid: sorted(all_of[before.get(uid, 0) :]) for uid, all_of in uses(bench).items()}
    for uid, of_one in spans.items():
        for (_, end), (begin, _) in itertools.pairwise(of_one):
            assert end <= begin, f"{uid} had two users at once"
    used = Counter(record.provenance["board_name"] for record in records)
    assert {f"twin-{int(uid[4:])}": len(of_one) for uid, of_one in spans.items()} == used
    with_it = ", ".join(f"{name}: {count}" for name, count in sorted(used.items()))
    print(f"{workers} workers, {jobs} jobs, {len(records)} records, no overlap, {with_it}")


def test_a_killed_run_loses_nothing_that_was_measured_and_leaves_the_board_usable(
    project: Path, bench: Path
) -> None:
    """TINYHIL_KILLS=50 kills more often."""
    errors, moments = project / "errors", random.Random(7)
    assert tinyhil_run(project, bench, ["tiny1.tflite"], errors).wait(timeout=120) == 0
    for _ in range(int(os.environ.get("TINYHIL_KILLS", "4"))):
        before = stored(project)
        run = tinyhil_run(project, bench, ["tiny1.tflite"] * 20, errors)
        while "[1/20]" not in errors.read_text() and run.poll() is None:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 4))
        run.send_signal(signal.SIGKILL)
        run.wait(timeout=30)
        begun = errors.read_text().count("/20] tiny1")
        assert stored(project) - before in (begun - 1, begun)
    assert tinyhil_run(project, bench, ["tiny1.tflite"], errors).wait(timeout=120) == 0, errors.read_text()
    kept = [path.read_text() for path in (bench / "locks").iterdir() if '"kept": ""' not in path.read_text()]
    assert kept == []


def test_an_emulated_board_is_no_hardware(project: Path, bench: Path) -> None:
    done = pytest_in(project, bench, "--hil-require-hardware")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no stm32f746 on this bench" in done.stderr
