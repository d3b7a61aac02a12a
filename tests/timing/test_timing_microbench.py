"""The pipeline models give each loop of the micro-benchmark the count that was derived by hand."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tinyhil.harness.timing.block_costs import CORES
from tinyhil.harness.timing.decode import decode_block
from tinyhil.harness.timing.image import Image, load_elf
from tinyhil.harness.timing.microbench import loops, microbench_sources
from tinyhil.harness.timing.rules import SOURCES

GCC = shutil.which("arm-none-eabi-gcc")
FLAGS = ["-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16", "-nostdlib"]
HAND_COUNTED = [loop for loop in loops() if loop.expected]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    if GCC is None:
        pytest.skip("needs arm-none-eabi-gcc (make bench)")
    folder = tmp_path_factory.mktemp("microbench")
    (folder / "loops.S").write_text(microbench_sources().files["loops.S"])
    layout = "-Wl,-Ttext=0x08000000,-Tbss=0x20000000,-e,0"
    command = [GCC, *FLAGS, layout, str(folder / "loops.S"), "-o", str(folder / "loops.elf")]
    subprocess.run(command, check=True, capture_output=True)
    return load_elf(folder / "loops.elf")


def blocks_of(image: Image, symbol: str) -> list[tuple[int, bytes]]:
    """The blocks of one iteration: from the loop's head, cut behind each branch, to the last BNE."""
    start, size, _ = next(f for f in image.functions if f[2] == symbol)
    head = (start + 4 + 7) // 8 * 8  # PUSH, MOVS, and on to the next multiple of 8
    code = image.read(head, start + size - head - 2)  # but for the final POP
    assert code is not None
    blocks, place, begin = [], 0, 0
    for i in decode_block(code):
        place += i.size
        if i.writes_pc:
            blocks.append((head + begin, code[begin:place]))
            begin = place
    return blocks


def cycles_per_iteration(core_name: str, blocks: list[tuple[int, bytes]]) -> float:
    core = CORES[core_name]
    if len(blocks) == 1:
        address, code = blocks[0]
        return core.loop_cycles(code, address) + core.branch_cycles(code, 1, 1, 0)
    cycles = 0.0
    for place, (address, code) in enumerate(blocks):
        before = blocks[place - 1][1]
        cycles += core.step_cycles(before, code, address, taken=place == 0)
    return cycles + core.branch_cycles(blocks[-1][1], 1, 1, 0)


@pytest.mark.parametrize("core", ["cortex-m7", "cortex-m4"])
@pytest.mark.parametrize("loop", HAND_COUNTED, ids=lambda loop: loop.name)
def test_a_loop_costs_what_was_derived_by_hand(image: Image, loop: object, core: str) -> None:
    cycles, _ = loop.expected[core]  # type: ignore[attr-defined]
    assert cycles_per_iteration(core, blocks_of(image, loop.symbol)) == pytest.approx(cycles)  # type: ignore[attr-defined]


def test_there_are_about_twenty_loops_and_each_is_run_and_exists() -> None:
    sources = microbench_sources()
    assert len(HAND_COUNTED) >= 20
    assert len({loop.name for loop in loops()}) == len(loops()) == len(sources.layers)
    for loop in loops():
        assert f"    loop {loop.name}\n" in sources.files["loops.S"]


@pytest.mark.parametrize("core", CORES.values(), ids=lambda core: core.name)
def test_every_rule_names_a_source(core: object) -> None:
    rules = core.rules  # type: ignore[attr-defined]
    assert {rule.source for rule in rules.values()} <= set(SOURCES)
    assert all(rule.text for rule in rules.values())
