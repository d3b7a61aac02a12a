"""Cortex-M7: two instructions a cycle, in order, with an early and a late ALU one cycle apart.

A value that leaves the late ALU serves the late ALU of the next cycle; whatever needs an operand in
front of that (address adders, shifters, bit-field extraction) waits one cycle more. The model issues
each instruction at the first cycle at which a slot, the pairing rules and its operands allow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from tinyhil.harness.timing.decode import ADDEND, DATA, INDEX, SHIFTED, Instruction, decode_block
from tinyhil.harness.timing.rules import Issue, Rule

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
_NAMES = (
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
_PAIRS = tuple(tuple((a, b) not in _FORBIDDEN for b in range(12)) for a in range(12))

# Where an operand is taken: from the late ALU's result, before the early ALU, behind the multiplier, as a
# factor. Each is a quarter of a table of 256 times; a register's place in a quarter is its number.
_LATE, _EARLY, _BEHIND, _FACTOR = 0, 64, 128, 192
_REGISTER = 63

_EXTRACTS = {"ubfx", "sbfx", "rbit", "rev", "rev16", "revsh", "bfi", "bfc", "pkhbt", "pkhtb"}
_EXTRACTS |= {"sxtab", "sxtah", "uxtab", "uxtah", "sxtab16", "uxtab16"}
_REVERSES = {"rev", "rev16", "revsh", "rbit"}
_ONE_CYCLE_FLOAT = {"vabs", "vneg", "vcmp", "vcmpe", "vmrs", "fmstat", "vmax", "vmin", "vmaxnm", "vminnm"}

# What a fused multiply-add shortly before does to an instruction.
_FREE, _FIRST_ONLY, _NEVER = range(3)


class _Step(NamedTuple):
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
def _step(i: Instruction) -> _Step:
    where = {INDEX: _EARLY, SHIFTED: _EARLY, ADDEND: _BEHIND, DATA: _BEHIND}
    default = _FACTOR if i.kind == "multiply" else _LATE
    kind, holds = _issue_class(i), _holds(i)
    adds = i.kind == "add_move" and i.mnemonic != "rsb"
    blocked = _FREE
    if i.fpu and (
        i.kind in {"load_multiple", "store_multiple"} or i.mnemonic in {"vadd", "vsub"} or i.words == 2
    ):
        blocked = _NEVER
    elif i.fpu and (i.kind in {"load", "store"} or i.mnemonic == "vmov"):
        blocked = _FIRST_ONLY
    to_late, to_early, to_behind = _latency(i, holds)
    loaded = kind == LOAD or (kind == SOLO and to_late == holds)
    return _Step(
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
def _steps(code: bytes) -> tuple[_Step, ...]:
    return tuple(_step(i) for i in decode_block(code))


# Why an instruction did not issue earlier: these, or the place in the table of times of what it waited for.
_NOTHING, _PAIR, _BANKS, _AFTER_FUSED, _SECOND_AFTER_FUSED, _STORES = range(-1, -7, -1)
_REASONS = {
    _NOTHING: "",
    _BANKS: "two loads, perhaps of the same bank",
    _AFTER_FUSED: "too soon after a fused multiply-add",
    _SECOND_AFTER_FUSED: "not second in a pair so soon after a fused multiply-add",
    _STORES: "store buffer full of narrow stores",
}


def _reason(why: int, older: int) -> str:
    if why == _PAIR:
        return f"does not pair with a {_NAMES[older]}"
    if why < 0:
        return _REASONS[why]
    register = why & _REGISTER
    return f"waits for r{register}" if register < 32 else f"waits for s{register - 32}"


class _Pipeline:
    """The state between two instructions. `cycle`: when the last one issued, or let the next one issue."""

    __slots__ = ("cycle", "fused", "older", "older_bank", "times", "used", "written")

    def __init__(self) -> None:
        self.times = [-9.0] * 256  # when each register serves, by where it is taken
        self.cycle, self.used = -1.0, 2  # how many issued in `cycle`,
        self.older: int = PLAIN_ALU  # ... and the class and the bank of the first
        self.older_bank: tuple[int, int] | None = None
        self.written = -99.0  # when the store buffer will have written its last narrow store
        self.fused = -99.0  # when the last fused multiply-add issued

    def copy(self) -> _Pipeline:
        """Another pipeline in the same state."""
        other = _Pipeline.__new__(_Pipeline)
        other.times = self.times.copy()
        other.cycle, other.used, other.older, other.older_bank = (
            self.cycle, self.used, self.older, self.older_bank
        )  # fmt: skip
        other.written, other.fused = self.written, self.fused
        return other

    def run(self, steps: Sequence[_Step], taken: bool, issues: list[Issue] | None = None) -> float:
        """Issues `steps`; after a `taken` branch they start in a new cycle. Returns the cycles they add."""
        times, cycle, older, older_bank = self.times, self.cycle, self.older, self.older_bank
        used = 2 if taken else self.used
        written, fused = self.written, self.fused
        narrow_cost, buffer_lag, after_fused = _NARROW_STORE, _STORE_BUFFER, _AFTER_FUSED_CYCLES
        for (
            kind, reads, inputs, shifts, writes, updated, to_late, to_early, to_behind, to_factor,
            holds, narrow, bank, blocked,
        ) in steps:  # fmt: skip
            why = _NOTHING
            t = cycle
            if used == 2:
                t += 1
            elif not _PAIRS[older][kind]:
                t += 1
                why = _PAIR
            elif (
                kind == LOAD
                and older == LOAD
                and not (bank and older_bank and bank[0] == older_bank[0] and bank[1] != older_bank[1])
            ):
                t += 1
                why = _BANKS
            for place in reads:
                if times[place] > t:
                    t = times[place]
                    why = place
            if blocked and t <= fused + after_fused:
                if blocked == _NEVER:
                    t, why = fused + after_fused + 1, _AFTER_FUSED
                elif t == cycle and used == 1:
                    t, why = t + 1, _SECOND_AFTER_FUSED
            if narrow:
                if written - t > buffer_lag:
                    t = float(-(-(written - buffer_lag) // 1))
                    why = _STORES
                written = max(written, t) + narrow_cost
            if kind == FUSED:
                fused = t
            if issues is not None:
                issues.append(Issue(t, t - cycle + holds - 1, _reason(why, older)))
            first = t > cycle
            if first:
                used, older, older_bank = 1, kind, bank
            else:
                used = 2
            cycle = t
            if holds > 1:
                cycle += holds - 1
                used = 2
            # "add, sub, mov from older op only; shifts from older or younger op provided that the other is
            # not ... using early alu shifter" (jnk0le)
            if first or (shifts and older != SHIFTED_ALU and older != EXTRACT):
                for place in inputs:
                    if place < 0 or times[place] > t:
                        break
                else:
                    to_late, to_early, to_behind, to_factor = 0, 1, 0, 0
            for register in writes:
                times[register] = t + to_late
                times[register + 64] = t + to_early
                times[register + 128] = t + to_behind
                times[register + 192] = t + to_factor
            if updated >= 0:
                times[updated] = times[updated + 64] = times[updated + 128] = times[updated + 192] = t + 1
        added = cycle - self.cycle
        self.cycle, self.used, self.older, self.older_bank = cycle, used, older, older_bank
        self.written, self.fused = written, fused
        return added


_NARROW_STORE, _STORE_BUFFER = RULES["narrow_store"].value, RULES["store_buffer"].value
_AFTER_FUSED_CYCLES = RULES["after_fused"].value
_CONTEXT = 8  # instructions of the block before that can still matter
_ROUNDS = 8


@lru_cache(maxsize=256)
def _after(before: bytes) -> _Pipeline:
    """The pipeline when `before` has run; copy it before use."""
    pipeline = _Pipeline()
    pipeline.run(_steps(before)[-_CONTEXT:], True)
    return pipeline


class CortexM7:
    """The Cortex-M7 pipeline, caches apart."""

    name = "cortex-m7"
    model = "cortex-m7/1"
    rules = RULES

    def step_cycles(self, before: bytes, block: bytes, address: int, taken: bool) -> float:
        """See `rules.Core`."""
        return _after(before).copy().run(_steps(block), taken)

    def loop_cycles(self, block: bytes, address: int) -> float:
        """See `rules.Core`; never less than the fetch of its bytes, or the writing of its narrow stores."""
        steps, pipeline = _steps(block), _Pipeline()
        _, one, cycles = (pipeline.run(steps, True) for _ in range(3))
        if one != cycles:  # not steady yet, or in turns
            pipeline.run(steps, True)
            cycles = sum(pipeline.run(steps, True) for _ in range(_ROUNDS)) / _ROUNDS
        narrow = _NARROW_STORE * sum(step.narrow for step in steps)
        width = int(RULES["fetch_bytes"].value)
        windows = (address + len(block) - 1) // width - address // width + 1
        return max(cycles, narrow, windows)

    def branch_cycles(self, block: bytes, executed: int, left_taken: int, mispredicted: int) -> float:
        """See `rules.Core`."""
        instructions = decode_block(block)
        last = instructions[-1]
        if not last.writes_pc:
            return 0.0
        if last.mnemonic in {"bx", "pop", "ldm"}:
            return executed * RULES["return"].value
        if last.mnemonic in {"tbb", "tbh", "blx", "ldr", "mov", "add"}:
            return executed * RULES["indirect"].value
        far = _flags_far(block)
        return mispredicted * RULES["mispredict_early_flags" if far else "mispredict"].value

    def trace(self, before: bytes, block: bytes, address: int, taken: bool) -> tuple[Issue, ...]:
        """See `rules.Core`."""
        issues: list[Issue] = []
        steps = _steps(block)
        if before == block and taken:
            pipeline = _Pipeline()
            for _ in range(_ROUNDS):
                pipeline.run(steps, True, issues)
        else:
            _after(before).copy().run(steps, taken, issues)
        return tuple(issues[-len(steps) :])


@lru_cache(maxsize=65536)
def _flags_far(block: bytes) -> bool:
    """The flags of the final branch are set at least three cycles before it."""
    instructions = decode_block(block)
    place = max((n for n, i in enumerate(instructions[:-1]) if i.sets_flags), default=None)
    if place is None or instructions[-1].mnemonic != "b":
        return False
    issues: list[Issue] = []
    _Pipeline().run(_steps(block), True, issues)
    return issues[-1].cycle - issues[place].cycle >= 3
