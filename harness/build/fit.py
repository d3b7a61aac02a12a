"""Whether a network fits a board: said before the build where it can be known, after the link else."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tinyhil.errors import BuildError, DoesNotFit
from tinyhil.harness.boards import Board, all_boards
from tinyhil.harness.build.project import GUARDS, STACK, Program
from tinyhil.harness.engine import Buffer, Sources

_OVERFLOW = re.compile(r"region `(\w+)' overflowed by (\d+) bytes")
_ERROR = re.compile(r"error|undefined reference|multiple definition|cannot find|ASSERT|overflowed", re.I)
_LINES = 12  # of a compiler's or linker's words, in one message


def check_fit(sources: Sources, board: Board, stack: int = STACK) -> None:
    """DoesNotFit if the planned arena or the weights alone are too much for `board`.

    The weights are known where an engine gives `notes["weight_bytes"]`. Passing is no promise: code
    and static data come on top, and the linker script holds the exact limits.
    """
    weights = int(sources.notes.get("weight_bytes", "0"))
    if weights > board.flash.size:
        raise DoesNotFit(
            f"{sources.network} does not fit {board.name}: its weights take {weights:,} bytes of flash, "
            f"{weights - board.flash.size:,} more than the {board.flash.size:,} there are. "
            f"What would help: fewer channels, or {_roomier('flash', weights)}."
        )
    room = arena_room(board, stack)
    if sources.arena is not None and sources.arena > room:
        raise DoesNotFit(
            f"{sources.network} does not fit {board.name}: {sources.engine} plans an arena of "
            f"{sources.arena:,} bytes, {sources.arena - room:,} more than the {room:,} that the RAM has "
            f"beside a stack of {stack:,}. {_peak(sources)}"
            "What would help: a smaller input, fewer channels or an earlier stride there, or "
            f"{_roomier('ram', sources.arena + stack)}."
        )


def arena_room(board: Board, stack: int = STACK) -> int:
    """Bytes that an arena may have on `board` at the very most."""
    if not board.fast:
        return board.ram.size - stack - GUARDS
    return max(board.ram.size - GUARDS, board.memory_map(False).region(board.fast).size - stack - GUARDS)


def _peak(sources: Sources) -> str:
    """The layer with the most live bytes, and what lives there."""
    if not sources.buffers:
        return ""
    layers = {buffer.first for buffer in sources.buffers}
    live: Mapping[int, list[Buffer]] = {
        layer: [b for b in sources.buffers if b.first <= layer <= b.last] for layer in layers
    }
    peak = max(live, key=lambda layer: (sum(b.size for b in live[layer]), -layer))
    name = sources.layers[peak].name if 0 <= peak < len(sources.layers) else f"layer {peak}"
    biggest = sorted(live[peak], key=lambda buffer: -buffer.size)[:3]
    listed = ", ".join(f"{buffer.name} ({buffer.role}) {buffer.size:,}" for buffer in biggest)
    return f"The peak is at {name}, where {listed} bytes are needed at once. "


def _roomier(memory: str, needed: int) -> str:
    """The boards whose flash or RAM would hold `needed` bytes, as part of a sentence."""
    boards = [board for board in all_boards().values() if not board.is_native]
    fitting = [board.name for board in boards if getattr(board, memory).size >= needed]
    return f"a board with more of it ({', '.join(fitting)})" if fitting else "no board that is known here"


def explain_log(program: Program, log: str) -> DoesNotFit | BuildError:
    """What compiler and linker said about one program, as the error that it means."""
    sources, board = program.sources, program.board
    overflows = {name: int(size) for name, size in _OVERFLOW.findall(log)}
    if overflows:
        parts = [_overflow(program, region, size) for region, size in overflows.items()]
        return DoesNotFit(f"{sources.network} does not fit {board.name}: {'; '.join(parts)}.")
    lines = log.splitlines()
    first = next((i for i, line in enumerate(lines) if _ERROR.search(line)), 0)
    words = "\n".join(lines[max(0, first - 2) : first + _LINES])
    return BuildError(
        f"{sources.network} by {sources.engine} for {board.name}{_layer_in(sources, log)} was not built:\n"
        f"{words}\n"
        "The engine's C is at fault, or the compiler is too old; please report it with the model file."
    )


def _overflow(program: Program, region: str, size: int) -> str:
    board, arena = program.board, program.sources.arena
    if region == "FLASH":
        needed = board.flash.size + size
        return (
            f"code and weights take {size:,} bytes more than its {board.flash.size:,} of flash; "
            f"what would help: fewer channels, or {_roomier('flash', needed)}"
        )
    memory = board.ram if region == "RAM" else board.memory_map(False).region(board.fast)
    planned = "" if arena is None else f"an arena of {arena:,}, "
    return (
        f"{planned}a stack of {program.stack:,}, static data and the harness's own buffers take {size:,} "
        f"bytes more than its {memory.size:,} of {memory.name.upper()}; "
        f"what would help: a smaller input, fewer channels, or {_roomier('ram', board.ram.size + size)}"
    )


def _layer_in(sources: Sources, log: str) -> str:
    """The layer whose C function the messages name, if there is one."""
    for layer in sources.layers:
        if re.search(rf"\b{re.escape(layer.symbol)}\b", log):
            return f", layer {layer.name} ({layer.op}),"
    return ""
