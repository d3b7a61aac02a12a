"""llvm-mca beside the model: what is given to it, and a run where it is installed."""

from __future__ import annotations

import shutil

import pytest

from tinyhil.errors import MissingTool
from tinyhil.harness.timing import llvm_mca
from tinyhil.harness.timing.block_costs import CORES
from tinyhil.harness.timing.explain import HotBlock

# ldr.w r9, [r1], #4; sxtb16 r3, r2; smlad r5, r12, r11, r5; bne
CODE = bytes.fromhex("51f8049b2ffa82f32cfb0b55f9d1")
needs_mca = pytest.mark.skipif(
    not any(map(shutil.which, llvm_mca._NAMES)), reason="needs llvm-mca: apt install llvm"
)


def block(code: bytes = CODE) -> HotBlock:
    return HotBlock(0x100, "kernel", 10, 20.0, 2.0, 0.5, (), code)


def test_the_last_branch_is_left_out_and_names_are_those_that_llvm_takes() -> None:
    lines, code = llvm_mca.body(block())
    assert lines == ["ldr r9, [r1], #4", "sxtb16 r3, r2", "smlad r5, r12, r11, r5"]
    assert code == CODE[:-2]


def test_post_indexed_accesses_become_such_with_an_offset() -> None:
    lines = ["ldr r9, [r1], #4", "strb r0, [r2], #-1", "ldr r0, [r1, #4]!", "add r1, r2, r3"]
    plain = llvm_mca.without_post_index(lines)
    assert plain == ["ldr r9, [r1, #4]", "strb r0, [r2, #4]", *lines[2:]]


def test_without_llvm_mca_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingTool, match="apt install llvm"):
        llvm_mca.find_llvm_mca()


@needs_mca
def test_independent_multiplies_take_a_cycle_each_in_both_models() -> None:
    # Four SMLAD with accumulators of their own.
    code = b"".join(bytes.fromhex(f"21fb02{a}{a}") for a in "4567")
    program = llvm_mca.find_llvm_mca()
    lines, _ = llvm_mca.body(block(code))
    assert llvm_mca.cycles(program, "cortex-m7", lines) == pytest.approx(4, abs=0.1)
    assert CORES["cortex-m7"].loop_cycles(code, 0) == 4
    assert llvm_mca.cycles(program, "cortex-m7", ["no instruction"]) is None
    assert "kernel" in llvm_mca.table(program, CORES["cortex-m7"], [block(code), block()])
