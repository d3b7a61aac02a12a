"""What the pipeline models are told of an instruction. Encodings by arm-none-eabi-as."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyhil.harness.timing.decode import (
    ADDEND,
    DATA,
    INDEX,
    PLAIN,
    SHIFTED,
    Instruction,
    decode,
    decode_block,
    disassemble,
    is_cut,
)


def reads(i: Instruction) -> set[tuple[int, str]]:
    return set(i.reads)


@pytest.mark.parametrize(
    ("code", "text", "kind", "read", "written"),
    [
        ("51f8040b", "ldr r0, [r1], #4", "load", {(1, INDEX)}, {0, 1}),
        ("885c", "ldrb r0, [r1, r2]", "load", {(1, INDEX), (2, INDEX)}, {0}),
        ("8854", "strb r0, [r1, r2]", "store", {(0, DATA), (1, INDEX), (2, INDEX)}, set()),
        ("8818", "adds r0, r1, r2", "add_move", {(1, PLAIN), (2, PLAIN)}, {0}),
        ("01eb3220", "add.w r0, r1, r2, ror #8", "alu_shifted", {(1, PLAIN), (2, SHIFTED)}, {0}),
        ("4fea3120", "ror.w r0, r1, #8", "shift", {(1, PLAIN)}, {0}),
        ("c841", "rors r0, r1", "shift", {(0, PLAIN), (1, PLAIN)}, {0}),
        ("2ffa91f0", "sxtb16 r0, r1, ror #8", "bitfield", {(1, PLAIN)}, {0}),
        ("22fa91f0", "sxtab16 r0, r2, r1, ror #8", "bitfield", {(2, PLAIN), (1, SHIFTED)}, {0}),
        ("21fb0230", "smlad r0, r1, r2, r3", "multiply", {(1, PLAIN), (2, PLAIN), (3, ADDEND)}, {0}),
        (
            "c2fb0301",
            "smlal r0, r1, r2, r3",
            "multiply",
            {(0, ADDEND), (1, ADDEND), (2, PLAIN), (3, PLAIN)},
            {0, 1},
        ),
        ("21f34710", "ssat r0, #8, r1, asr #5", "bitfield", {(1, PLAIN)}, {0}),
        ("c1ea0240", "pkhbt r0, r1, r2, lsl #16", "bitfield", {(1, PLAIN), (2, SHIFTED)}, {0}),
        ("70bd", "pop {r4, r5, r6, pc}", "load_multiple", {(13, INDEX)}, {13, 4, 5, 6}),
        ("90ed000a", "vldr s0, [r0]", "load", {(0, INDEX)}, {32}),
        ("a0ee810a", "vfma.f32 s0, s1, s2", "float", {(32, ADDEND), (33, PLAIN), (34, PLAIN)}, {32}),
        (
            "31ee020b",
            "vadd.f64 d0, d1, d2",
            "float",
            {(34, PLAIN), (35, PLAIN), (36, PLAIN), (37, PLAIN)},
            {32, 33},
        ),
    ],
)
def test_operands_are_read_and_written_where_the_manual_says(
    code: str, text: str, kind: str, read: set[tuple[int, str]], written: set[int]
) -> None:
    i = decode(bytes.fromhex(code))
    assert (
        disassemble(0, bytes.fromhex(code))[0].split()[1].partition(".")[0]
        == text.split()[0].partition(".")[0]
    )
    assert i.kind == kind
    assert reads(i) == read
    assert set(i.writes) == written


def test_an_address_register_that_is_written_back_is_known() -> None:
    i = decode(bytes.fromhex("51f8040b"))
    assert (i.base, i.updated) == (1, 1)


def test_an_it_instruction_makes_what_it_covers_conditional_and_keeps_the_flags() -> None:
    # ite eq; addeq r0, #1; addne r1, #1; adds r2, #1
    block = decode_block(bytes.fromhex("0cbf013001310132"))
    assert [i.conditional for i in block] == [False, True, True, False]
    assert [i.sets_flags for i in block] == [False, False, False, True]


def test_what_is_no_instruction_is_unknown_and_the_next_one_is_read_again() -> None:
    assert decode(bytes.fromhex("ffffffff")).kind == "unknown"
    assert [i.kind for i in decode_block(bytes.fromhex("ffffffff8818"))] == ["unknown", "add_move"]
    assert disassemble(0x100, bytes.fromhex("ffffffff8818")) == [
        "00000100  ? ffffffff",
        "00000104  adds r0, r1, r2",
    ]


def test_half_of_an_instruction_is_told_from_a_whole_one() -> None:
    assert is_cut(bytes.fromhex("8818d0f8"))
    assert not is_cut(bytes.fromhex("8818d0f80000"))
    assert not is_cut(b"")


@given(st.binary(min_size=2, max_size=64).filter(lambda code: len(code) % 2 == 0))
def test_any_bytes_decode_into_instructions_that_cover_them(code: bytes) -> None:
    block = decode_block(code)
    assert sum(i.size for i in block) in (len(code), len(code) + 2)  # the last may be cut in half
    for i in block:
        assert all(0 <= register < 64 and register != 15 for register, _ in i.reads)
        assert all(0 <= register < 64 and register != 15 for register in i.writes)
