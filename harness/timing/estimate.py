"""A trace and a board become estimated cycles: for the whole, and for each segment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board
from tinyhil.harness.targets.recorder.trace import BLOCK_COLUMNS, REGION_COLUMNS, Block, Segment, Trace
from tinyhil.harness.timing.conditions import Conditions
from tinyhil.harness.timing.cortex_m4 import CortexM4
from tinyhil.harness.timing.cortex_m7 import CortexM7
from tinyhil.harness.timing.decode import decode, decode_block, is_cut, pieces
from tinyhil.harness.timing.image import Image
from tinyhil.harness.timing.interval import Doubts, interval
from tinyhil.harness.timing.memory import MemoryTiming, memory_timing
from tinyhil.harness.timing.rules import Core

CORES: Mapping[str, Core] = {"cortex-m7": CortexM7(), "cortex-m4": CortexM4()}

#: The part of a segment's instructions whose blocks are simulated one by one.
_HOT = 0.9995
PARTS = ("core", "branches", "fetch", "flash", "sram", "unaligned")


@dataclass(frozen=True)
class Estimate:
    """Estimated core cycles, never a measurement.

    `low` to `high`: at least 95 % of the validation measurements lay inside theirs. `model` names
    the core's rules and the board's penalties. `parts` splits `value`: core (issue and operand
    stalls), branches (mispredictions, refills, returns), fetch (code lines), flash and sram (data
    lines), unaligned. `notes` say what is unusual about the run.
    """

    value: float
    low: float
    high: float
    model: str
    instructions: int
    parts: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, object]:
        """The `cycles_est` of a record, in whole cycles."""
        return {
            "value": round(self.value),
            "low": int(self.low),
            "high": round(self.high + 0.5),
            "model": self.model,
        }


@dataclass(frozen=True, eq=False)
class BlockCosts:
    """Costs of a trace's blocks and steps, computed once and used for every segment.

    `steps`: cycles by (block left, block entered), for the steps that matter: all that together make
    `_HOT` of the instructions of some segment. The others are charged their segment's average.
    """

    core: Core
    memory: MemoryTiming
    blocks: tuple[Block, ...]
    steps: Mapping[tuple[int, int], float]
    floats: Mapping[int, float]  # the part of the instructions that use the FPU, by busy block
    code_line: NDArray[np.float64]  # per block: cycles of a line of its code that the cache lacks,
    code_fetch: NDArray[np.float64]  # ... and of fetching it all without that cache
    regions: tuple[str, ...]
    uncached: tuple[bool, bool]  # instruction cache off, data cache off
    follows_data: bool  # the trace has data accesses
    notes: tuple[str, ...]


def block_costs(
    trace: Trace,
    board: Board,
    image: Image | None = None,
    overrides: Mapping[str, float] | None = None,
    conditions: Conditions | None = None,
) -> BlockCosts:
    """Prepares `estimate_segment` for a trace, in the `conditions` that the firmware reported.

    Raises UsageError for a core without a model, a trace without steps, code that neither the trace nor
    the image has, and conditions that the trace or the board's penalties do not fit.
    """
    core = CORES.get(board.core)
    if core is None:
        raise UsageError(f"there is no pipeline model of {board.core}; there is one of {', '.join(CORES)}")
    if not trace.has_edges:
        raise UsageError("this trace has block counts only; record it with edges=1 to estimate cycles")
    conditions = conditions or Conditions()
    memory = memory_timing(board, overrides, conditions.wait_states)
    off = caches_off(trace, conditions)
    blocks = tuple(_with_code(block, image) for block in trace.blocks)
    sizes = np.array([block.instructions for block in blocks], dtype=np.int64)
    # In order of the block left: a core may keep the state that it leaves behind.
    hot = np.unique(np.concatenate([_hot_steps(s, sizes) for s in trace.segments] or [_NO_STEPS]), axis=0)
    steps = {(left, entered): _step(core, blocks[left], blocks[entered]) for left, entered in hot.tolist()}
    notes = _notes(trace, board, memory, conditions, off)
    busy = np.unique(hot)
    notes += _unknown(trace, blocks, busy)
    floats = {place: _float_share(blocks[place]) for place in busy.tolist()}
    return BlockCosts(
        core,
        memory,
        blocks,
        steps,
        floats,
        *_code_costs(trace, blocks, memory),
        tuple(trace.regions),
        off,
        "dcache" in trace.settings,
        notes,
    )


def _code_costs(
    trace: Trace, blocks: Sequence[Block], memory: MemoryTiming
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per block: cycles of a missed line of code, and of one execution's fetches without a cache.

    They depend on the memory that the code is in: flash, another region, or none at all, such as ITCM,
    which answers at once. Where the trace does not tell the flash's addresses, all code is taken to be there.
    """
    costs = {
        "flash": (memory.fetch_line, memory.fetch_access),
        "ram": (memory.ram_line, memory.ram_access),
        "": (0.0, 0.0),
    }
    line, fetch = (np.array([costs[_memory_of(b, trace.regions)][n] for b in blocks]) for n in (0, 1))
    return line, fetch * np.array([_windows(block, memory.fetch_bytes) for block in blocks])


def _memory_of(block: Block, regions: Mapping[str, tuple[int, int]]) -> str:
    inside = (name for name, (low, high) in regions.items() if low <= block.address < high)
    name = next(inside, "" if "flash" in regions else "flash")
    return name if name in {"", "flash"} else "ram"


def _float_share(block: Block) -> float:
    """The part of the instructions that reads or writes a register of the FPU."""
    code = decode_block(block.code)
    return sum([i.fpu for i in code]) / len(code)


def _unknown(trace: Trace, blocks: Sequence[Block], busy: NDArray[np.int64]) -> tuple[str, ...]:
    """A warning of instructions in the `busy` blocks that the model does not know."""
    strange = {
        place for place in busy.tolist() if "?" in [i.mnemonic for i in decode_block(blocks[place].code)]
    }
    times, example = 0, ""
    for place in sorted(strange):
        block, address = blocks[place], blocks[place].address
        executed = sum(int(s.ran[s.ran[:, 0] == place, 1].sum()) for s in trace.segments)
        for piece in pieces(block.code):
            if decode(piece).kind == "unknown":
                times += executed
                example = example or f"{piece.hex()} at 0x{address:08x}"
            address += len(piece)
    if not times:
        return ()
    share = times / max(1, sum(segment.instructions for segment in trace.segments))
    return (
        f"WARNING: {times:,} executed instructions ({share:.2%}) are not known to the model and were given "
        f"a default, such as {example}",
    )


def caches_off(trace: Trace, conditions: Conditions) -> tuple[bool, bool]:
    """Whether the instruction and the data cache were off: as reported, otherwise as recorded.

    A trace of a simulated cache also counts every access, so it serves for a cache that was off; not the
    other way round: UsageError.
    """
    off = []
    for name, reported in (("icache", conditions.icache), ("dcache", conditions.dcache)):
        recorded_off = trace.settings.get(name, "1:").startswith("0:")
        if reported and recorded_off:
            raise UsageError(
                f"the trace was recorded with {name} off, but it was on: record it again with the cache's "
                f"geometry, {name}=SIZE:WAYS:LINE:rr"
            )
        off.append(recorded_off if reported is None else not reported)
    return off[0], off[1]


def _notes(
    trace: Trace, board: Board, memory: MemoryTiming, conditions: Conditions, off: tuple[bool, bool]
) -> tuple[str, ...]:
    clock = conditions.clock_hz
    notes = []
    if clock is not None and clock != board.clock_hz:
        if memory.bus_divider > 1:
            raise UsageError(
                f"the core ran at {clock / 1e6:g} MHz, but the penalties of {board.name} hold for "
                f"{board.clock_hz / 1e6:g} MHz and a bus at 1/{memory.bus_divider} of it: give flash_line, "
                "ram_line and bus_divider for that clock in a board file of your own"
            )
        notes.append(f"the core ran at {clock / 1e6:g} MHz, not at {board.clock_hz / 1e6:g} MHz")
    if memory.corrected:
        notes.append(f"{memory.flash_wait_states} wait states: the flash penalty is not validated there")
    notes += [
        f"the {n} cache was off" for n, is_off in zip(("instruction", "data"), off, strict=True) if is_off
    ]
    if "icache" not in trace.settings:
        notes.append("no icache simulation in the trace")
    if "dcache" not in trace.settings:
        notes.append("no dcache simulation in the trace: waits for data are only in the upper end")
    notes += [f"changed: {', '.join(memory.overrides)}"] if memory.overrides else []
    return tuple(notes)


def _with_code(block: Block, image: Image | None) -> Block:
    """The block with its machine code from the image where the trace leaves it, or the end of it, out."""
    if block.code:
        return replace(block, code=_completed(block, image)) if is_cut(block.code) else block
    for size in range(2 * block.instructions, 4 * block.instructions + 1, 2):
        code = image.read(block.address, size) if image else None
        if code and len(decode_block(code)) == block.instructions and _whole(code):
            return replace(block, code=code)
    raise UsageError(f"no image has the code at 0x{block.address:08x}; give it with --image FILE@ADDRESS")


def _completed(block: Block, image: Image | None) -> bytes:
    """The code with its last two bytes. Zeros, if nobody has them, mostly keep the kind of instruction."""
    tail = image.read(block.address + len(block.code), 2) if image else None
    return block.code + (tail or b"\0\0")


def _whole(code: bytes) -> bool:
    return sum(i.size for i in decode_block(code)) == len(code)


_NO_STEPS = np.zeros((0, 2), dtype=np.int64)


def _hot_steps(segment: Segment, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The busiest steps, which together execute at least `_HOT` of the segment's instructions."""
    if not len(segment.edges):
        return _NO_STEPS
    work = segment.edges[:, 2] * sizes[segment.edges[:, 1]]
    order = np.argsort(-work, kind="stable")
    sums = np.cumsum(work[order])
    enough = int(np.searchsorted(sums, _HOT * sums[-1])) + 1
    return segment.edges[order[:enough], :2]


def _step(core: Core, left: Block, entered: Block) -> float:
    if left is entered:
        return core.loop_cycles(entered.code, entered.address)
    taken = entered.address != left.address + len(left.code)
    return core.step_cycles(left.code, entered.code, entered.address, taken)


def _region(row: NDArray[np.int64], region: int) -> dict[str, int]:
    start = 1 + len(BLOCK_COLUMNS) + region * len(REGION_COLUMNS)
    return dict(zip(REGION_COLUMNS, row[start : start + len(REGION_COLUMNS)].tolist(), strict=True))


def estimate_segment(costs: BlockCosts, segment: Segment) -> Estimate:
    """Estimated cycles of one segment."""
    parts = dict.fromkeys(PARTS, 0.0)
    core, memory = costs.core, costs.memory
    left_taken: dict[int, int] = defaultdict(int)
    simulated: set[int] = set()
    cold = hot = 0
    floats = 0.0
    for left, entered, count in segment.edges.tolist():
        cycles = costs.steps.get((left, entered))
        if cycles is None:
            cold += count * costs.blocks[entered].instructions
            continue
        hot += count * costs.blocks[entered].instructions
        simulated |= {left, entered}
        parts["core"] += cycles * count
        floats += cycles * count * costs.floats[entered]
        if costs.blocks[entered].address != costs.blocks[left].address + len(costs.blocks[left].code):
            left_taken[left] += count
    more = 1 + cold / hot if hot else 1
    parts["core"] *= more
    floats *= more
    for place, executed, mispredicted, *_ in segment.ran.tolist():
        if place in simulated:
            code = costs.blocks[place].code
            parts["branches"] += core.branch_cycles(code, executed, left_taken[place], mispredicted)
    totals = segment.ran.sum(axis=0) if len(segment.ran) else np.zeros(segment.ran.shape[1], dtype=np.int64)
    parts["unaligned"] = float(totals[4]) * core.rules["unaligned_load"].value
    code, column = (costs.code_fetch, 1) if costs.uncached[0] else (costs.code_line, 3)
    parts["fetch"] = float((segment.ran[:, column] * code[segment.ran[:, 0]]).sum())
    for number, name in enumerate(costs.regions):
        counts = _region(totals, number)
        part = "flash" if name == "flash" else "sram"
        flash = part == "flash"
        if costs.uncached[1]:
            parts[part] += counts["accesses"] * (memory.flash_access if flash else memory.ram_access)
        else:
            line = memory.flash_line if flash else memory.ram_line
            parts[part] += (counts["load_misses"] + counts["store_misses"]) * line
    return _with_interval(parts, floats, costs, segment.instructions)


def _windows(block: Block, width: int) -> int:
    """Aligned fetches of `width` bytes that a block takes without an instruction cache."""
    return (block.address + len(block.code) - 1) // width - block.address // width + 1


def _with_interval(
    parts: Mapping[str, float], floats: float, costs: BlockCosts, instructions: int
) -> Estimate:
    value = sum(parts.values())
    off = "".join(letter for letter, is_off in zip("ID", costs.uncached, strict=True) if is_off)
    model = f"{costs.core.model}+{costs.memory.id}" + (f":off={off}" if off else "")
    model += "" if costs.follows_data else ":nodata"
    doubts = Doubts(costs.core.name, costs.uncached, costs.memory.corrected, costs.follows_data)
    low, high = interval(parts, floats, instructions, doubts)
    return Estimate(value, low, high, model, instructions, dict(parts), costs.notes)


def total(estimates: Iterable[Estimate]) -> Estimate:
    """The sum of segments; their errors are taken to be the same error, so intervals add up."""
    all_of = list(estimates)
    if not all_of:
        raise UsageError("there is nothing to add up: no segment matches")
    parts = {name: sum(e.parts[name] for e in all_of) for name in PARTS}
    return Estimate(
        sum(e.value for e in all_of),
        sum(e.low for e in all_of),
        sum(e.high for e in all_of),
        all_of[0].model,
        sum(e.instructions for e in all_of),
        parts,
        all_of[0].notes,
    )


@dataclass(frozen=True)
class TraceEstimate:
    """Estimates of a whole trace: one per segment, and the sum over all of them."""

    total: Estimate
    segments: tuple[tuple[Segment, Estimate], ...]

    def of(self, segments: Sequence[Segment]) -> Estimate:
        """The sum over some of the segments, such as one inference or one layer."""
        wanted = {segment.index for segment in segments}
        return total(e for segment, e in self.segments if segment.index in wanted)


def estimate(
    trace: Trace,
    board: Board,
    image: Image | None = None,
    overrides: Mapping[str, float] | None = None,
    conditions: Conditions | None = None,
) -> TraceEstimate:
    """Estimated cycles of everything in the trace on the board. Raises UsageError as `block_costs` does."""
    costs = block_costs(trace, board, image, overrides, conditions)
    rows = tuple((segment, estimate_segment(costs, segment)) for segment in trace.segments)
    return TraceEstimate(total(e for _, e in rows), rows)
