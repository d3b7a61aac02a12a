"""Cortex-M7: two instructions a cycle, in order, with an early and a late ALU one cycle apart.

A value that leaves the late ALU serves the late ALU of the next cycle; whatever needs an operand in
front of that (address adders, shifters, bit-field extraction) waits one cycle more. The model issues
each instruction at the first cycle at which a slot, the pairing rules and its operands allow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tinyhil.harness.timing.cortex_m7_steps import (
    CLASS_NAMES,
    EXTRACT,
    FUSED,
    LOAD,
    NEVER,
    PAIRS,
    PLAIN_ALU,
    REGISTER,
    RULES,
    SHIFTED_ALU,
    Step,
    steps_of,
)
from tinyhil.harness.timing.decode import decode_block
from tinyhil.harness.timing.rules import Issue

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
        return f"does not pair with a {CLASS_NAMES[older]}"
    if why < 0:
        return _REASONS[why]
    register = why & REGISTER
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

    def run(self, steps: Sequence[Step], taken: bool, issues: list[Issue] | None = None) -> float:
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
            elif not PAIRS[older][kind]:
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
                if blocked == NEVER:
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
    pipeline.run(steps_of(before)[-_CONTEXT:], True)
    return pipeline


class CortexM7:
    """The Cortex-M7 pipeline, caches apart."""

    name = "cortex-m7"
    model = "cortex-m7/1"
    rules = RULES

    def step_cycles(self, before: bytes, block: bytes, address: int, taken: bool) -> float:
        """See `rules.Core`."""
        return _after(before).copy().run(steps_of(block), taken)

    def loop_cycles(self, block: bytes, address: int) -> float:
        """See `rules.Core`; never less than the fetch of its bytes, or the writing of its narrow stores."""
        steps, pipeline = steps_of(block), _Pipeline()
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
        steps = steps_of(block)
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
    _Pipeline().run(steps_of(block), True, issues)
    return issues[-1].cycle - issues[place].cycle >= 3
