"""What the recorder counts, on a program small enough to count by hand."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tinyhil.errors import MissingTool, UsageError
from tinyhil.harness.boards import get_board
from tinyhil.harness.targets.recorder import (
    CacheModel,
    Trace,
    build_recorder,
    parse,
    parse_text,
    plugin_argument,
    recorder_options,
)
from tinyhil.harness.targets.recorder.build import plugin_api

QEMU, GCC, CC = (shutil.which(tool) for tool in ("qemu-system-arm", "arm-none-eabi-gcc", "cc"))
needs_tools = pytest.mark.skipif(
    not (QEMU and GCC and CC), reason="needs qemu-system-arm, arm-none-eabi-gcc and cc (make bench)"
)

PROGRAM = """
    .syntax unified
    .thumb
    .text
    .word 0x20100000, start + 1
    .thumb_func
start:
    bl count
    bl read_lines
    bl read_fast
    bl read_unaligned
    movs r0, #0x18          @ SYS_EXIT
    ldr r1, =0x20026
    bkpt 0xab

    .balign 4
    .global count
    .thumb_func
count:                      @ 1 + 100 x 3 + 1
    movs r0, #100
1:  adds r1, #1
    subs r0, #1
    bne 1b
    bx lr

    .balign 4
    .global read_lines
    .thumb_func
read_lines:                 @ 3 + 64 x 3 + 1, one load from each of 64 lines, twice 32
    ldr r1, =0x20010000
    movs r0, #64
    movs r3, #0
1:  ldr r2, [r1], #32
    subs r0, #1
    bne 1b
    bx lr

    .balign 4
    .global read_fast
    .thumb_func
read_fast:                  @ from memory outside of every region
    ldr r1, =0x20000000
    ldr r2, [r1]
    bx lr

    .balign 4
    .global read_unaligned
    .thumb_func
read_unaligned:
    ldr r1, =0x20010002
    ldr.w r2, [r1]
    ldrh.w r2, [r1]
    ldr.w r2, [r1, #2]
    bx lr
    .ltorg
"""


@dataclass(frozen=True)
class Lab:
    """The linked program, its symbols, and a way to run it."""

    run: Callable[..., Trace]
    symbols: Mapping[str, int]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("recorder")
    (folder / "program.s").write_text(PROGRAM)
    elf = folder / "program.elf"
    flags = ["-mcpu=cortex-m7", "-mthumb", "-nostdlib", "-Wl,-Ttext=0,-e,0"]
    subprocess.run(
        [str(GCC), *flags, str(folder / "program.s"), "-o", str(elf)], check=True, capture_output=True
    )
    names = subprocess.run(
        ["arm-none-eabi-nm", str(elf)], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    symbols = {line.split()[2]: int(line.split()[0], 16) & ~1 for line in names}
    library = build_recorder(folder / "cache")

    def run(*marks: str, **options: Any) -> Trace:
        out = folder / "trace"
        words = plugin_argument(library, out, [symbols[mark] for mark in marks], **options)
        machine = ["-M", "mps2-an500", "-nographic", "-semihosting", "-kernel", str(elf)]
        subprocess.run([str(QEMU), *machine, *words], check=True, timeout=60, stdin=subprocess.DEVNULL)
        return parse(out)

    return Lab(run, symbols)


def blocks_ran(trace: Trace, mark: int) -> Mapping[int, list[int]]:
    """Counts of the segment that begins at `mark`, by block address."""
    (segment,) = trace.starting_at(mark)
    return {trace.blocks[row[0]].address: row[1:] for row in segment.ran.tolist()}


@needs_tools
def test_instructions_between_marks_are_exact(lab: Lab) -> None:
    trace = lab.run("count", "read_lines", "read_fast")
    (count,) = trace.starting_at(lab.symbols["count"])
    # 302 of the function, and the BL that leads to the next mark
    assert count.instructions == 302 + 1
    (lines,) = trace.starting_at(lab.symbols["read_lines"])
    assert lines.instructions == 3 + 64 * 3 + 1 + 1


@needs_tools
def test_every_run_gives_the_same_trace(lab: Lab) -> None:
    caches = {"icache": CacheModel(4096, 2), "dcache": CacheModel(4096, 4)}
    options = {"edges": True, "regions": {"sram": (0x20010000, 0x20020000)}, **caches}
    first, second = lab.run("count", **options), lab.run("count", **options)
    assert first.blocks == second.blocks
    for a, b in zip(first.segments, second.segments, strict=True):
        assert a.instructions == b.instructions
        assert a.ran.tolist() == b.ran.tolist()
        assert a.edges.tolist() == b.edges.tolist()


@needs_tools
def test_counting_alone_and_counting_everything_agree(lab: Lab) -> None:
    plain = lab.run("count", "read_lines")
    full = lab.run(
        "count",
        "read_lines",
        edges=True,
        dcache=CacheModel(4096, 4),
        regions={"sram": (0x20010000, 0x20020000)},
    )
    assert [s.instructions for s in plain.segments] == [s.instructions for s in full.segments]
    assert not plain.has_edges
    assert full.has_edges


@needs_tools
def test_a_loop_is_an_edge_to_itself_and_mispredicts_at_its_ends(lab: Lab) -> None:
    trace = lab.run("count", "read_lines", edges=True)
    (segment,) = trace.starting_at(lab.symbols["count"])
    loops = [(a, times) for a, b, times in segment.edges.tolist() if a == b]
    assert [times for _, times in loops] == [98]  # of 100 rounds the first is part of the block before
    counts = blocks_ran(trace, lab.symbols["count"])
    # The first branch meets a fresh counter that says "not taken", the last one leaves the loop.
    assert sum(row[1] for row in counts.values()) == 2


@needs_tools
def test_each_new_line_misses_once_and_the_cache_forgets_what_does_not_fit(lab: Lab) -> None:
    regions = {"sram": (0x20010000, 0x20020000)}
    trace = lab.run("read_lines", "read_fast", "read_unaligned", dcache=CacheModel(4096, 4), regions=regions)
    rows = blocks_ran(trace, lab.symbols["read_lines"]).values()
    accesses, load_misses = (sum(row[column] for row in rows) for column in (4, 5))
    assert (accesses, load_misses) == (64, 64)
    # The first line is still there for the unaligned reads: 64 lines of 32 bytes fit into 4 KB.
    rows = blocks_ran(trace, lab.symbols["read_unaligned"]).values()
    assert sum(row[5] for row in rows) == 0
    small = lab.run("read_unaligned", dcache=CacheModel(256, 2), regions=regions)
    rows = blocks_ran(small, lab.symbols["read_unaligned"]).values()
    assert sum(row[5] for row in rows) == 1


@needs_tools
def test_memory_outside_of_every_region_costs_nothing(lab: Lab) -> None:
    regions = {"sram": (0x20010000, 0x20020000)}
    trace = lab.run("read_fast", "read_unaligned", dcache=CacheModel(4096, 4), regions=regions)
    rows = blocks_ran(trace, lab.symbols["read_fast"]).values()
    assert sum(sum(row[4:]) for row in rows) == 0


@needs_tools
def test_only_loads_across_their_own_size_are_unaligned(lab: Lab) -> None:
    trace = lab.run("read_unaligned", dcache=CacheModel(4096, 4), regions={"sram": (0x20010000, 0x20020000)})
    rows = blocks_ran(trace, lab.symbols["read_unaligned"]).values()
    assert sum(row[3] for row in rows) == 1  # the word at 2 mod 4; not the half-word, not the word at 4


@needs_tools
def test_without_a_cache_every_access_goes_to_memory(lab: Lab) -> None:
    regions = {"sram": (0x20010000, 0x20020000)}
    trace = lab.run("read_unaligned", dcache=CacheModel(0, 1), regions=regions)
    rows = blocks_ran(trace, lab.symbols["read_unaligned"]).values()
    assert sum(row[4] for row in rows) == sum(row[5] for row in rows) == 3


@needs_tools
def test_a_library_is_built_once_and_named_by_what_went_into_it(tmp_path: Path) -> None:
    first = build_recorder(tmp_path)
    stamp = first.stat().st_mtime_ns
    assert build_recorder(tmp_path) == first
    assert first.stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


@needs_tools
def test_without_a_compiler_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "qemu-system-arm").symlink_to(str(QEMU))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(MissingTool, match="C compiler"):
        build_recorder(tmp_path)


@pytest.mark.parametrize(
    ("version", "api"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2)", 1),
        ("QEMU emulator version 9.0.1", 2),
        ("QEMU emulator version 10.1.0", 3),
    ],
)
def test_the_interface_follows_the_emulators_version(version: str, api: int) -> None:
    assert plugin_api(version) == api


def test_an_emulator_that_tells_no_version_is_a_missing_tool() -> None:
    with pytest.raises(MissingTool, match="no version"):
        plugin_api("hello")


def test_a_boards_caches_and_memories_become_options() -> None:
    options = recorder_options(get_board("stm32f746"))
    assert str(options["icache"]) == "4096:2:32:rr"
    assert options["regions"]["flash"] == (0, 0x100000)
    assert options["regions"]["sram"] == (0x20010000, 0x20050000)  # behind the DTCM
    flash_only = recorder_options(get_board("nucleo-l4r5zi"))
    assert list(flash_only["regions"]) == ["flash"]
    assert str(flash_only["dcache"]) == "256:8:32:lru"


GOOD = """tinyhil-trace 1
with edges=1
with region=flash:0x0:0x1000
block 3 00000010 2 00bf00bf
segment 0 00000000 2
ran 3 1 0 0 0 0 0 0 0
segment 1 00000010 6
ran 3 3 0 1 0 2 1 0 0
edge 3 3 2
end
"""


def test_a_trace_is_read_into_segments_and_tables() -> None:
    trace = parse_text(GOOD)
    assert trace.regions == {"flash": (0, 0x1000)}
    assert trace.blocks[0].code == bytes.fromhex("00bf00bf")
    assert trace.segments[1].ran.tolist() == [[0, 3, 0, 1, 0, 2, 1, 0, 0]]  # ids become places
    assert trace.segments[1].edges.tolist() == [[0, 0, 2]]
    assert trace.starting_at(0x11) == (trace.segments[1],)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line"),
        ("hello\nend\n", "first line"),
        (GOOD.replace("end\n", ""), "cut short"),
        (GOOD.replace("edge 3 3 2", "edge 3 9 2"), "damaged"),
        (GOOD.replace("ran 3 3 0 1", "ran 3 3 x 1"), "damaged"),
        (GOOD.replace("00bf00bf", "00bf0"), "line 4"),
        (GOOD.replace("edge", "egde"), "line 9"),
        (GOOD.replace("segment 0 00000000 2\n", ""), "line 5"),
    ],
)
def test_a_damaged_trace_says_where(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_text(text)


def test_a_trace_that_is_no_text_or_no_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not text"):
        parse(tmp_path / "binary")
    with pytest.raises(UsageError, match="cannot read"):
        parse(tmp_path / "missing")
