"""What the Cortex-M7's pipeline has to know of an instruction: its class, its operands, its latencies.

The rules with their sources are here too; `cortex_m7.py` issues the steps one after another.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from tinyhil.harness.timing.decode import ADDEND, DATA, INDEX, SHIFTED, Instruction, decode_block
from tinyhil.harness.timing.rules import Rule

RULES: Mapping[str, Rule] = {
    "mispredict": Rule("cycles of a mispredicted branch", 8, "jnk0le"),
    "mispredict_early_flags": Rule("... with flags set at least 3 cycles before the branch", 6, "jnk0le"),
    "return": Rule("cycles of a return: BX LR, POP {PC}", 5, "guess"),
    "indirect": Rule("cycles of BLX register, TBB, TBH", 5, "guess"),
    "load": Rule("cycles until a loaded word serves the late ALU", 1, "jnk0le"),
    "narrow_load": Rule("... a loaded byte or half-word", 2, "jnk0le"),
    "multiply": Rule("cycles until a product serves the late ALU", 2, "jnk0le"),
    "multiply_after_load": Rule("more cycles until a product can take a loaded word", 1, "jnk0le"),
    "accumulate_early": Rule("cycles by which an addend may come later than a factor", 1, "jnk0le"),
    "divide": Rule("cycles of SDIV and UDIV; 2 to 12 by operand values", 8, "quinapalus"),
    "narrow_store": Rule("cycles that a byte or half-word keeps a place of the store buffer", 2.4, "jnk0le"),
    "store_buffer": Rule("cycles of work that the store buffer may lag behind", 8, "jnk0le"),
    "unaligned_load": Rule("more cycles of an unaligned load", 3, "jnk0le"),
    "fetch_bytes": Rule("bytes fetched in a cycle, aligned to this", 8, "DDI0489"),
    "float": Rule("cycles until a single-precision sum or product is ready", 3, "jnk0le"),
    "float_fused": Rule("... a fused multiply-add; VMLA one more", 5, "jnk0le"),
    "after_fused": Rule(
        "cycles after a fused multiply-add in which VADD, VLDM and VSTM cannot issue, nor VLDR, VSTR and "
        "VMOV as the second of a pair",
        3,
        "jnk0le",
    ),
    "float_divide": Rule("cycles of VDIV.F32; VSQRT.F32 two less", 16, "jnk0le"),
    "double_add": Rule("cycles of VADD.F64, VSUB.F64, conversions", 2, "jnk0le"),
    "double_multiply": Rule("cycles of VMUL.F64", 5, "jnk0le"),
    "double_fused": Rule("cycles of VFMA.F64, VMLA.F64", 8, "jnk0le"),
    "double_divide": Rule("cycles of VDIV.F64, VSQRT.F64", 30, "jnk0le"),
    "unknown": Rule("cycles of an instruction that is not known; it pairs with nothing", 3, "guess"),
}

# Issue classes. SOLO goes with nothing, in either slot.
(PLAIN_ALU, SHIFTED_ALU, EXTRACT, BITFIELD, MULTIPLY, LOAD, STORE, BRANCH, FLOAT, FUSED, MOVE, SOLO) = range(
    12
)
CLASS_NAMES = (
    *("ALU", "shifted operand", "bit-field", "bit-field", "multiply", "load", "store", "branch"),
    *("float", "fused multiply-add", "register transfer", "multi-cycle instruction"),
)

# Pairs (older, younger) that cannot issue in one cycle.
_FORBIDDEN = {(older, SOLO) for older in range(12)} | {(SOLO, younger) for younger in range(12)}
# jnk0le: "the bitfield/dsp instructions must be placed in older op"
_FORBIDDEN |= {(older, younger) for older in range(12) for younger in (EXTRACT, BITFIELD)}
_FORBIDDEN |= {(EXTRACT, SHIFTED_ALU), (SHIFTED_ALU, SHIFTED_ALU), (BRANCH, BRANCH)}
_FORBIDDEN |= {(MULTIPLY, MULTIPLY), (MULTIPLY, STORE), (STORE, MULTIPLY), (STORE, STORE)}
_FORBIDDEN |= {(a, b) for a in (FLOAT, FUSED) for b in (FLOAT, FUSED)}
_FORBIDDEN |= {
    (FUSED, LOAD),
    (FUSED, STORE),
    (FUSED, MOVE),
    (LOAD, FUSED),
    (STORE, FUSED),
    (MOVE, FUSED),
    (MOVE, MOVE),
}
PAIRS = tuple(tuple((a, b) not in _FORBIDDEN for b in range(12)) for a in range(12))

# Where an operand is taken: from the late ALU's result, before the early ALU, behind the multiplier, as a
# factor. Each is a quarter of a table of 256 times; a register's place in a quarter is its number.
_LATE, _EARLY, _BEHIND, _FACTOR = 0, 64, 128, 192
REGISTER = 63

_EXTRACTS = {"ubfx", "sbfx", "rbit", "rev", "rev16", "revsh", "bfi", "bfc", "pkhbt", "pkhtb"}
_EXTRACTS |= {"sxtab", "sxtah", "uxtab", "uxtah", "sxtab16", "uxtab16"}
_REVERSES = {"rev", "rev16", "revsh", "rbit"}
_ONE_CYCLE_FLOAT = {"vabs", "vneg", "vcmp", "vcmpe", "vmrs", "fmstat", "vmax", "vmin", "vmaxnm", "vminnm"}

# What a fused multiply-add shortly before does to an instruction.
FREE, FIRST_ONLY, NEVER = range(3)


class Step(NamedTuple):
    """One instruction, ready for the inner loop. Cycles count from its issue."""

    kind: int  # issue class
    reads: tuple[int, ...]  # register + where it is taken
    inputs: tuple[int, ...]  # the same for the early ALU; (-1,) if that cannot take the instruction
    shifts: bool  # ... and it is the shifter there that would
    writes: tuple[int, ...]  # without the address register
    updated: int  # address register with a new value, -1: none
    to_late: int  # cycles until the result serves the late ALU,
    to_early: int  # ... what lies in front of it,
    to_behind: int  # ... the adder behind the multiplier,
    to_factor: float  # ... a multiplier
    holds: int  # cycles of the issue stage
    narrow: bool  # stores a byte or half-word
    bank: tuple[int, int] | None  # base register and bank of a load, if known
    blocked: int  # what a fused multiply-add shortly before does to it


def _issue_class(i: Instruction) -> int:
    if i.kind in {"load_multiple", "store_multiple", "divide", "unknown"}:
        return SOLO
    if i.kind in {"load", "store"} and i.words == 2:
        return SOLO  # VLDR.64, VSTR.64
    if i.kind == "bitfield":
        return EXTRACT if i.mnemonic in _EXTRACTS else BITFIELD
    if i.kind == "float":
        core = any(r < 16 for r, _ in i.reads) or any(w < 16 for w in i.writes)
        if i.mnemonic == "vmov":
            many = len(i.writes) + len(i.reads) > 2
            return SOLO if core and many else MOVE
        fused = any(how == ADDEND for _, how in i.reads)
        return FUSED if fused else FLOAT
    classes = {
        "load": LOAD,
        "store": STORE,
        "multiply": MULTIPLY,
        "branch": BRANCH,
        "alu_shifted": SHIFTED_ALU,
    }
    return classes.get(i.kind, PLAIN_ALU)


def _holds(i: Instruction) -> int:
    """Cycles for which nothing else issues, counted from its own."""
    if i.kind in {"load_multiple", "store_multiple"}:
        return max(1, (i.words + 1) // 2)
    if i.kind in {"divide", "unknown"}:
        return int(RULES[i.kind].value)
    if i.kind != "float":
        return 1
    if i.mnemonic in {"vdiv", "vsqrt"}:
        single = int(RULES["float_divide"].value) - (2 if i.mnemonic == "vsqrt" else 0)
        return int(RULES["double_divide"].value) if i.double else single
    if not i.double or i.mnemonic in _ONE_CYCLE_FLOAT | {"vmov"}:
        return 1
    if any(how == ADDEND for _, how in i.reads):
        return int(RULES["double_fused"].value)
    return int(RULES["double_multiply" if i.mnemonic in {"vmul", "vnmul"} else "double_add"].value)


def _latency(i: Instruction, holds: int) -> tuple[int, int, int]:
    """Cycles from issue until the result serves: late ALU, early consumers, addend input."""
    if i.kind == "load":
        late = int(RULES["load" if i.words else "narrow_load"].value)
        return (late, late + 1, 3) if i.writes and i.writes[-1] >= 32 else (late, late + 1, late - 1)
    if i.kind in {"load_multiple", "divide"}:
        return holds, holds + 1, holds - 1
    if i.kind == "multiply":
        late = int(RULES["multiply"].value)
        return late, late + 1, late - 1
    if i.kind == "float":
        if i.mnemonic in _ONE_CYCLE_FLOAT:
            return 1, 2, 1
        if any(how == ADDEND for _, how in i.reads):
            late = int(RULES["float_fused"].value) + (1 if i.mnemonic.startswith("vml") else 0) + holds - 1
            return late, late + 1, 3 + holds - 1
        late = 2 if i.writes and i.writes[0] < 16 else int(RULES["float"].value) + holds - 1
        return late, late + 1, late - 1 if i.writes and i.writes[0] < 16 else late
    if i.mnemonic in _REVERSES:
        return 0, 2, 0
    return 1, 2, 0


@lru_cache(maxsize=65536)
def _step(i: Instruction) -> Step:
    where = {INDEX: _EARLY, SHIFTED: _EARLY, ADDEND: _BEHIND, DATA: _BEHIND}
    default = _FACTOR if i.kind == "multiply" else _LATE
    kind, holds = _issue_class(i), _holds(i)
    adds = i.kind == "add_move" and i.mnemonic != "rsb"
    blocked = FREE
    if i.fpu and (
        i.kind in {"load_multiple", "store_multiple"} or i.mnemonic in {"vadd", "vsub"} or i.words == 2
    ):
        blocked = NEVER
    elif i.fpu and (i.kind in {"load", "store"} or i.mnemonic == "vmov"):
        blocked = FIRST_ONLY
    to_late, to_early, to_behind = _latency(i, holds)
    loaded = kind == LOAD or (kind == SOLO and to_late == holds)
    return Step(
        kind,
        reads=tuple(register + where.get(how, default) for register, how in i.reads),
        inputs=tuple(register + _EARLY for register, _ in i.reads) if adds or i.kind == "shift" else (-1,),
        shifts=i.kind == "shift",
        writes=tuple(w for w in i.writes if w != i.updated),
        updated=-1 if i.updated is None else i.updated,
        to_late=to_late,
        to_early=to_early,
        to_behind=to_behind,
        to_factor=to_late + (RULES["multiply_after_load"].value if loaded else 0),
        holds=holds,
        narrow=i.kind == "store" and i.words == 0,
        bank=(i.base, i.offset >> 2 & 1)
        if i.kind == "load" and i.base is not None and i.index is None
        else None,
        blocked=blocked,
    )


@lru_cache(maxsize=65536)
def steps_of(code: bytes) -> tuple[Step, ...]:
    return tuple(_step(i) for i in decode_block(code))
