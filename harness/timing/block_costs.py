"""What a trace's blocks and steps cost on a board, worked out once for all its segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board
from tinyhil.harness.targets.recorder.trace import Block, Segment, Trace
from tinyhil.harness.timing.conditions import Conditions
from tinyhil.harness.timing.cortex_m4 import CortexM4
from tinyhil.harness.timing.cortex_m7 import CortexM7
from tinyhil.harness.timing.decode import decode, decode_block, is_cut, pieces
from tinyhil.harness.timing.image import Image
from tinyhil.harness.timing.memory import MemoryTiming, memory_timing
from tinyhil.harness.timing.rules import Core

CORES: Mapping[str, Core] = {"cortex-m7": CortexM7(), "cortex-m4": CortexM4()}

#: The part of a segment's instructions whose blocks are simulated one by one.
_HOT = 0.9995


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


def _windows(block: Block, width: int) -> int:
    """Aligned fetches of `width` bytes that a block takes without an instruction cache."""
    return (block.address + len(block.code) - 1) // width - block.address // width + 1
