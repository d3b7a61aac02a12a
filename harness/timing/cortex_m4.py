"""Cortex-M4: one instruction a cycle, in order; loads that follow each other overlap.

The Technical Reference Manual's table, with what measurements add: a 32-bit instruction that does
not lie on a word costs a quarter of a cycle on average, and an address that was computed by the
instruction before costs one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from tinyhil.harness.timing.decode import INDEX, Instruction, decode_block
from tinyhil.harness.timing.rules import Issue, Rule

RULES: Mapping[str, Rule] = {
    "load": Rule("cycles of a load that cannot overlap with the one before", 2, "DDI0439"),
    "load_pipelined": Rule("cycles of a load right behind another load", 1, "DDI0439"),
    "store_indexed": Rule("cycles of a store with a register offset", 2, "jnk0le"),
    "address": Rule("more cycles if the address was computed by the instruction before", 1, "jnk0le"),
    "multiple": Rule(
        "cycles of a load or store of several registers, besides one per register", 1, "DDI0439"
    ),
    "branch_taken": Rule("more cycles of a taken branch; 1 to 3 by the target", 2, "DDI0439"),
    "table_branch": Rule("... and of TBB and TBH one more", 1, "DDI0439"),
    "divide": Rule("cycles of SDIV and UDIV; 2 to 12 by operand values", 6, "DDI0439"),
    "float_divide": Rule("cycles of VDIV.F32 and VSQRT.F32", 14, "DDI0439"),
    "float_fused": Rule("cycles of VMLA, VFMA and their kin", 3, "DDI0439"),
    "unaligned_fetch": Rule("more cycles of a 32-bit instruction at an address 2 mod 4", 0.25, "mlperf"),
    "unaligned_load": Rule("more cycles of an unaligned load: it becomes two", 1, "DDI0439"),
    "unknown": Rule("cycles of an instruction that is not known", 3, "guess"),
}

_MEMORY = {"load", "store", "load_multiple", "store_multiple"}
_FUSED = {"vmla", "vmls", "vfma", "vfms", "vfnma", "vfnms", "vnmla", "vnmls"}


def _overlaps(i: Instruction, before: Instruction | None) -> bool:
    """The load `i` hides its address phase behind the load before it."""
    if before is None or before.kind != "load":
        return False
    # Post-indexed loads on one base do chain (rows of MLPerf); an address that the load brings cannot.
    results = {w for w in before.writes if w != before.updated}
    return not any(register in results for register, how in i.reads if how == INDEX)


def _cost(i: Instruction, before: Instruction | None, address: int) -> tuple[float, str]:
    """Cycles of `i` right behind `before`, and what makes them more than one."""
    fetch = RULES["unaligned_fetch"].value if i.size == 4 and address & 2 else 0.0
    reason = "32-bit instruction off its word" if fetch else ""
    cycles = 1.0
    if i.kind == "load":
        if not _overlaps(i, before):
            cycles, reason = RULES["load"].value, "load not behind another load"
    elif i.kind == "store":
        if i.index is not None:
            cycles, reason = RULES["store_indexed"].value, "store with a register offset"
    elif i.kind in {"load_multiple", "store_multiple"}:
        cycles, reason = RULES["multiple"].value + i.words, f"{i.words} registers"
    elif i.kind in {"divide", "unknown"}:
        cycles, reason = RULES[i.kind].value, i.kind
    elif i.kind == "float" and i.mnemonic in {"vdiv", "vsqrt"}:
        cycles, reason = RULES["float_divide"].value, "divide"
    elif i.kind == "float" and i.mnemonic in _FUSED:
        cycles, reason = RULES["float_fused"].value, "fused multiply-add"
    elif i.kind == "it":
        folded = before is not None and before.size == 2 and before.kind not in _MEMORY
        cycles = 0.0 if folded else 1.0
    if i.kind in {"load", "store"} and before is not None and before.kind not in {"load", "load_multiple"}:
        computed = set(before.writes)
        if any(register in computed for register, how in i.reads if how == INDEX):
            cycles, reason = cycles + RULES["address"].value, "address computed just before"
    if i.kind == "store" and before is not None and before.kind == "load":
        cycles, reason = max(0.0, cycles - 1), "hides behind the load"
    return cycles + fetch, reason


@lru_cache(maxsize=131072)
def _block(block: bytes, before: bytes, odd: int) -> tuple[tuple[float, str], ...]:
    previous = decode_block(before)[-1] if before else None
    costs = []
    place = odd
    for i in decode_block(block):
        costs.append(_cost(i, previous, place))
        previous = i
        place += i.size
    return tuple(costs)


def _last(code: bytes) -> bytes:
    """The last instruction of a block, alone: all that matters to the next one."""
    size = decode_block(code)[-1].size if code else 0
    return code[len(code) - size :]


class CortexM4:
    """The Cortex-M4 pipeline; flash and its accelerator apart."""

    name = "cortex-m4"
    model = "cortex-m4/1"
    rules = RULES

    def step_cycles(self, before: bytes, block: bytes, address: int, taken: bool) -> float:
        """See `rules.Core`. A taken branch refills the pipeline: nothing before it matters."""
        return sum(cycles for cycles, _ in _block(block, b"" if taken else _last(before), address & 2))

    def loop_cycles(self, block: bytes, address: int) -> float:
        """See `rules.Core`."""
        return self.step_cycles(b"", block, address, True)

    def branch_cycles(self, block: bytes, executed: int, left_taken: int, mispredicted: int) -> float:
        """See `rules.Core`: there is no predictor, every taken branch costs the same."""
        last = decode_block(block)[-1]
        if not last.writes_pc:
            return 0.0
        table = executed * RULES["table_branch"].value if last.mnemonic in {"tbb", "tbh"} else 0.0
        return left_taken * RULES["branch_taken"].value + table

    def trace(self, before: bytes, block: bytes, address: int, taken: bool) -> tuple[Issue, ...]:
        """See `rules.Core`."""
        issues = []
        at = 0.0
        for cycles, reason in _block(block, b"" if taken else _last(before), address & 2):
            issues.append(Issue(at, cycles, reason))
            at += cycles
        return tuple(issues)
