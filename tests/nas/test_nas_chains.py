"""What is known of chains of layers: the same wherever it was learned, kept on disk, worked out together."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.nas import planning
from tinyhil.nas.arch import Arch, layers, parse
from tinyhil.nas.chains import Chains
from tinyhil.nas.chainstore import ChainStore
from tinyhil.nas.crew import _ctrl_c_later, open_needs
from tinyhil.nas.planning import EngineNeeds, Planned
from tinyhil.nas.prices import Conditions, Engine, spans, spots
from tinyhil.nas.space import Family, grid

BOARD = get_board("stm32f746")
CONDITIONS = Conditions(BOARD.core, Options())
FAMILY = Family(stem=8, first=8, stages=((8, 2, 2), (16, 1, 1)), kernels=(3, 5), expansions=(2, 3),
                classes=4, channels=1)  # fmt: skip
SPACES = grid(FAMILY, (1.0,), (8, 10))


def drawn(count: int) -> list[Arch]:
    source = random.Random(0)
    return [source.choice(SPACES).sample(source) for _ in range(count)]


def figures(plan: Planned) -> object:
    rows = [(row.kernel, row.instructions, row.flash, sorted((row.shared or {}).items()), row.parts)
            for row in plan.layers]  # fmt: skip
    return plan.arena, plan.flash, plan.macs, rows


def test_chains_of_one_text_have_the_same_options_in_every_network() -> None:
    """The first block's shortcut is behind ReLU6, the second one's is not; their shapes are the same."""
    networks = [*drawn(3), parse("r10 c1 | s8 k3e2 k3e2 | k3e3:16/2 | fc4"), parse("r10 c1 | s8 k3e2 | fc4")]
    seen: dict[str, object] = {}
    met = 0
    for arch in networks:
        engine = Engine(CONDITIONS)
        chains = Chains(CONDITIONS).unknown(arch)
        for text, found in zip(chains, engine(arch, list(chains.values())), strict=True):
            met += text in seen
            assert seen.setdefault(text, repr(found)) == repr(found)
    assert met > 20


def test_no_chain_goes_over_a_tensor_that_an_addition_reads_again() -> None:
    every = layers(parse("r8 c1 | s8 k3e2 | k3e2:16/2 | fc4"))
    names = [layer.name for layer in every]
    ends = dict(zip(names, spans(every, 4), strict=True))
    assert [names[after - 1] for after in ends["stem"]] == ["stem"], "the block adds the stem's output"
    assert [names[after - 1] for after in ends["b0.expand"]][-1] == "b0.add"
    assert [names[after - 1] for after in ends["b0.project"]][-1] == "b1.dw", "this block adds nothing"
    assert len(set(spots(every))) == len(every)


def test_what_one_search_learned_the_next_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archs = drawn(2)
    first = EngineNeeds(BOARD, store=ChainStore(tmp_path / "chains", CONDITIONS))
    plans = [figures(first.plan(arch)) for arch in archs]
    monkeypatch.setattr("tinyhil.nas.prices.options_of", None)
    second = EngineNeeds(BOARD, store=ChainStore(tmp_path / "chains", CONDITIONS))
    assert [figures(second.plan(arch)) for arch in archs] == plans
    other = Conditions("cortex-m4", Options())
    assert ChainStore(tmp_path / "chains", other).path != ChainStore(tmp_path / "chains", CONDITIONS).path


def garble(path: Path) -> None:
    base = sqlite3.connect(path)
    with base:
        base.execute("UPDATE chains SET options = replace(options, '8', '9')")
    base.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"no database at all" * 100),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(b""),
        garble,
    ],
    ids=["garbage", "cut off", "empty", "garbled"],
)
def test_a_spoilt_file_is_as_good_as_none(tmp_path: Path, spoil: object) -> None:
    arch = parse("r8 c1 | s8 | k3e2:8/2 | fc4")
    store = ChainStore(tmp_path, CONDITIONS)
    plan = figures(EngineNeeds(BOARD, store=store).plan(arch))
    assert callable(spoil)
    spoil(store.path)
    for _ in range(2):  # the second time with what the first one kept again
        assert figures(EngineNeeds(BOARD, store=store).plan(arch)) == plan
    texts = Chains(CONDITIONS).unknown(arch).keys()
    assert store.get(list(texts)).keys() == texts


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = ChainStore(tmp_path / "file" / "chains", CONDITIONS)
    arch = parse("r8 c1 | s8 | k3e2:8/2 | fc4")
    assert figures(EngineNeeds(BOARD, store=store).plan(arch)) == figures(EngineNeeds(BOARD).plan(arch))


def test_several_processes_may_write_at_once(tmp_path: Path) -> None:
    """As threads, which SQLite tells apart no less: every one of them begins the file if it is first."""
    arch = parse("r8 c1 | s8 | k3e2:8/2 | fc4")
    chains = Chains(CONDITIONS).unknown(arch)
    found = dict(zip(chains, Engine(CONDITIONS)(arch, list(chains.values())), strict=True))
    for round_ in range(6):
        stores = [ChainStore(tmp_path / str(round_), CONDITIONS) for _ in found]
        if round_ % 2:  # another process has opened the file, and not yet written
            stores[0].path.parent.mkdir()
            stores[0].path.touch()
        with ThreadPoolExecutor(4) as threads:
            rows = [{text: options} for text, options in found.items()]
            list(threads.map(ChainStore.put, stores, rows))
        assert stores[0].get(list(found)).keys() == found.keys()


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archs = drawn(20)
    alone = EngineNeeds(BOARD)
    plans = [figures(alone.plan(arch)) for arch in archs]
    with monkeypatch.context() as here, open_needs(BOARD, workers=2, cache=tmp_path) as needs:
        here.setattr("tinyhil.nas.prices.options_of", None)  # the workers are asked, not this process
        needs.prepare(archs)
        assert [figures(needs.plan(arch)) for arch in archs] == plans
    with open_needs(BOARD, workers=1, cache=tmp_path) as needs:
        assert [figures(needs.plan(arch)) for arch in archs] == plans


def test_a_crew_that_was_killed_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead:
        def plan(self, archs: Sequence[Arch]) -> list[Planned]:
            raise BrokenExecutor("a process was killed")

    monkeypatch.setattr(planning, "MANY", 0)
    arch = parse("r8 c1 | s8 | k3e2:8/2 | fc4")
    needs = EngineNeeds(BOARD, crew=Dead())
    needs.prepare([arch])
    assert figures(needs.plan(arch)) == figures(EngineNeeds(BOARD).plan(arch))


def test_ctrl_c_waits_until_workers_are_started() -> None:
    went_on = []

    def interrupted() -> None:
        with _ctrl_c_later():
            os.kill(os.getpid(), signal.SIGINT)
            went_on.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert went_on == [True]


_LONG = """
import signal
from tinyhil.harness.boards import get_board
from tinyhil.nas import planning
from tinyhil.nas.crew import open_needs
from tinyhil.nas.space import grid

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    planning.MANY = 0
    with open_needs(get_board("stm32f746"), workers=2) as needs:
        networks = [space.largest() for space in grid()]
        needs.prepare(networks[:2])  # then both workers have begun
        print("under way", flush=True)
        needs.prepare(networks)
"""


def children(pid: int) -> set[int]:
    """Processes that descend from `pid`, itself included."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(folder.name)] = int(fields[1])
    found = {pid} & parents.keys()
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are counted in Linux's /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_workers_end_with_the_search(tmp_path: Path, end: signal.Signals) -> None:
    script = tmp_path / "long.py"
    script.write_text(_LONG)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(script)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "under way\n"
        family = children(process.pid)
        assert len(family) >= 3, "the search and its two workers"
        if end is signal.SIGINT:
            os.killpg(process.pid, end)  # as a terminal does: all of them get it
        else:
            process.kill()
        _, said = process.communicate(timeout=120)
        assert process.returncode == -end
        assert said.count("Traceback") == (1 if end is signal.SIGINT else 0), said
        deadline = time.monotonic() + 120
        while (left := family & children_of_session(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left
    finally:
        for pid in children_of_session(process.pid):
            os.kill(pid, signal.SIGKILL)


def children_of_session(session: int) -> set[int]:
    """Living processes of a session."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z" and int(fields[3]) == session:
                found.add(int(folder.name))
    return found
