"""Any firmware's trace is estimated or refused with a sentence; nothing that can be recorded crashes."""

from __future__ import annotations

import contextlib
import gzip
import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.harness.boards import all_boards, get_board
from tinyhil.harness.targets.recorder import Block, Trace, parse, parse_text
from tinyhil.harness.timing.block_costs import CORES, block_costs
from tinyhil.harness.timing.commands import timing
from tinyhil.harness.timing.decode import decode_block
from tinyhil.harness.timing.estimate import estimate
from tinyhil.harness.timing.explain import as_text, explain
from tinyhil.harness.timing.image import Image

BOARDS = sorted({board.core: name for name, board in all_boards().items() if board.core in CORES}.values())

# What compilers and people write besides the plain: each by arm-none-eabi-as for cortex-m7 with fpv5-d16.
UNUSUAL = {
    "table branch": "dfe800f0",  # tbb [pc, r0]
    "table branch, half-words": "dfe810f0",  # tbh [pc, r0, lsl #1]
    "64-bit multiply": "c2fb0301",  # smlal
    "dual multiply, 64 bits": "c2fbc301",  # smlald
    "umaal": "e2fb6301",
    "it block": "1cbf01300138",  # itt ne; addne; subne
    "it block with a branch": "08bf7047",  # it eq; bxeq lr
    "load of the pc": "dff800f0",  # ldr.w pc, [pc]
    "literal": "dff80400",  # ldr.w r0, [pc, #4]
    "exclusive": "51e8000f",  # ldrex r0, [r1]
    "barrier": "bff34f8f",  # dsb
    "hint": "30bf",  # wfi
    "special register": "eff30980",  # mrs r0, psp
    "breakpoint": "abbe",
    "double": "31ee020b",  # vadd.f64 d0, d1, d2
    "double divide": "81ee020b",  # vdiv.f64
    "float conversion": "bdeec00a",  # vcvt.s32.f32
    "float to core": "10ee100a",  # vmov r0, s0
    "two registers to a double": "41ec100b",  # vmov d0, r0, r1
    "float flags": "f1ee10fa",  # vmrs apsr, fpscr
    "float immediate": "b7ee000a",  # vmov.f32 s0, #1.0
    "float select": "00fe810a",  # vseleq.f32
    "sixteen doubles": "b1ec200b",  # vldmia r1!, {d0-d15}
    "saturate": "21f34710",
    "parallel add": "81fa02f0",  # sadd8
    "select bytes": "a1fa82f0",  # sel
    "coprocessor": "00ee100f",
    "undefined": "00de",
    "half an instruction": "d0f8",
    "no instruction": "ffffffff",
}


def one_block(code: bytes, address: int = 0x0800_0100, shown: str = "") -> str:
    count = len(decode_block(code))
    return f"""tinyhil-trace 1
with edges=1
with icache=4096:2:32:rr
with dcache=4096:4:32:rr
with region=flash:0x8000000:0x8100000
block 0 {address:08x} {count} {shown or code.hex()}
segment 0 00000000 {100 * count}
ran 0 100 3 2 1 50 5 1 0
edge 0 0 99
end
"""


def check(trace: Trace, image: Image | None = None) -> None:
    """Every board estimates and explains it, with finite figures in order."""
    for name in BOARDS:
        board = get_board(name)
        found = estimate(trace, board, image).total
        assert 0 <= found.low <= found.value <= found.high
        assert math.isfinite(found.high)
        assert found.value == pytest.approx(sum(found.parts.values()))
        assert as_text(explain(block_costs(trace, board, image), trace.segments, image))


@pytest.mark.parametrize("code", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_instructions_have_a_cost(code: str) -> None:
    check(parse_text(one_block(bytes.fromhex(code))))
    check(parse_text(one_block(bytes.fromhex("8818" + code))))


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=2, max_size=64).filter(lambda code: len(code) % 2 == 0), st.integers(0, 2**31 - 1))
def test_any_bytes_in_any_memory_are_estimated(code: bytes, address: int) -> None:
    check(parse_text(one_block(code, 2 * address)))


@pytest.mark.parametrize("address", [0x0000_0100, 0x0020_0100, 0x2000_0100, 0x2400_0100, 0x6000_0100])
def test_code_may_lie_in_any_memory(address: int) -> None:
    check(parse_text(one_block(bytes.fromhex("8818fcd1"), address)))


def test_unknown_instructions_are_counted_in_a_warning() -> None:
    found = estimate(parse_text(one_block(bytes.fromhex("8818ffffffff"))), get_board("stm32f746")).total
    (warning,) = [note for note in found.notes if note.startswith("WARNING")]
    assert "100 executed instructions (50.00%)" in warning
    assert "ffffffff at 0x08000102" in warning
    known = estimate(parse_text(one_block(bytes.fromhex("88188818"))), get_board("stm32f746")).total
    assert not known.notes
    assert found.parts["core"] > known.parts["core"]


def test_the_missing_half_of_an_instruction_comes_from_the_image() -> None:
    cut, whole = bytes.fromhex("8818d0f8"), bytes.fromhex("8818d0f80400")
    image = Image(((0x0800_0100, whole),))
    board = get_board("nucleo-l4r5zi")
    assert block_costs(parse_text(one_block(cut)), board, image).blocks[0].code == whole
    assert estimate(parse_text(one_block(cut)), board).total.notes == ()


def test_code_that_the_trace_leaves_out_may_come_from_several_images() -> None:
    code = bytes.fromhex("51f8042b0138fbd1")
    images = Image(((0x0800_0000, bytes(16)), (0x0800_0100, code), (0x2000_0000, bytes(8))))
    check(parse_text(one_block(code, shown="-")), images)


def test_a_trace_may_be_gzipped(tmp_path: Path) -> None:
    text = one_block(bytes.fromhex("8818fcd1"))
    packed = tmp_path / "run.trace.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert parse(packed).blocks == parse_text(text).blocks
    result = CliRunner().invoke(timing, ["--board", "stm32f746", "--blocks", str(packed)])
    assert result.exit_code == 0
    packed.write_bytes(gzip.compress(text.encode())[:-9])
    with pytest.raises(UsageError, match="gzipped, but damaged"):
        parse(packed)


LINES = one_block(bytes.fromhex("51f8042b0138fbd1")).splitlines()


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """The trace with a few lines gone, doubled, swapped, or with a word of theirs replaced."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        what = draw(st.sampled_from(["remove", "double", "move", "word"]))
        line = lines.pop(place) if len(lines) > 1 else lines[0]
        if what == "double":
            lines[place:place] = [line, line]
        elif what == "move":
            lines.insert(draw(st.integers(0, len(lines))), line)
        elif what == "word":
            words = line.split()
            new = st.sampled_from(["-1", "0", "1", "99999999999999999999", "x", "-", "ffff", "0x1", "", "é"])
            words[draw(st.integers(0, len(words) - 1))] = draw(new)
            lines.insert(place, " ".join(words))
    return "\n".join(lines)


@settings(max_examples=300, deadline=None)
@given(damaged())
def test_a_damaged_trace_is_estimated_or_refused_with_a_sentence(text: str) -> None:
    with contextlib.suppress(UsageError):
        check(parse_text(text))


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_any_file_is_no_trace(data: bytes) -> None:
    with pytest.raises(UsageError, match="trace"):
        parse_text(data.decode("latin-1"))


def test_a_block_knows_its_size_in_instructions() -> None:
    assert Block(0x100, 2, bytes(4)).instructions == 2
    with pytest.raises(UsageError, match="no Thumb code"):
        parse_text(one_block(bytes(4)).replace("block 0 08000100 2 00000000", "block 0 08000100 2 000000"))
