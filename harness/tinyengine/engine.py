"""TinyEngine: passes, kernel choice, memory plan, C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tinyhil.errors import DoesNotFit
from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Options, Sources
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.tinyengine.choose import MAX_CHAIN, alternatives
from tinyhil.harness.tinyengine.choose import options as all_options
from tinyhil.harness.tinyengine.emit import Generated, emit, emit_together, port
from tinyhil.harness.tinyengine.kernel import Target
from tinyhil.harness.tinyengine.kernels import all_kernels
from tinyhil.harness.tinyengine.lowering import Program, lower
from tinyhil.harness.tinyengine.passes import optimise
from tinyhil.harness.tinyengine.paths import Option
from tinyhil.harness.tinyengine.schedule import Schedule, arrange_smallest

VERSION = "1"


def schedule_graph(graph: Graph, board: Board, options: Options) -> Schedule:
    """The plan of `graph` on `board`: passes, kernels, offsets. No code yet."""
    program = lower(optimise(graph, options), "low-bits" not in options.disabled)
    off = options.disabled
    kernels = all_kernels(off)
    target = Target(board.core, compact=options.prefer == "flash" or "unrolling" in off)
    plans = alternatives(
        program, kernels, target, options.prefer, _ram(board), not off & {"fusion", "streaming", "tiling"}
    )
    return arrange_smallest(program, plans, "overlap" not in off)


def candidate_table(graph: Graph, board: Board, options: Options) -> tuple[Program, list[list[Option]], int]:
    """Every candidate that `schedule_graph` chooses from, per step, and the bytes of RAM that there are."""
    program = lower(optimise(graph, options), "low-bits" not in options.disabled)
    off = options.disabled
    target = Target(board.core, compact=options.prefer == "flash" or "unrolling" in off)
    longest = 1 if off & {"fusion", "streaming", "tiling"} else MAX_CHAIN
    return program, all_options(program, all_kernels(off), target, longest), _ram(board)


def _ram(board: Board) -> int:
    return 1 << 40 if board.is_native else board.ram.size


def refuse_if_too_big(schedule: Schedule, board: Board) -> None:
    """DoesNotFit if the arena alone exceeds the board's RAM, or code and weights its flash."""
    if board.is_native:
        return
    name = schedule.program.graph.name or "the network"
    if schedule.arena > board.ram.size:
        worst = max(
            range(len(schedule.layers)),
            key=lambda t: sum(b.size for b in schedule.buffers if b.first <= t <= b.last),
        )
        alive = [b for b in schedule.buffers if b.first <= worst <= b.last]
        largest = max(alive, key=lambda b: b.size)
        step = schedule.program.steps[schedule.layers[worst].choice.steps[0]]
        over = schedule.arena - board.ram.size
        raise DoesNotFit(
            f"{name} needs an arena of {schedule.arena:,} B, "
            f"{over:,} B more than the {board.ram.size:,} B of RAM of {board.name}. "
            f"Its fullest layer is {worst} ({step.label}); the largest buffer there is {largest.name} "
            f"with {largest.size:,} B. A smaller input, fewer channels there, or --prefer ram would help."
        )
    flash = sum(layer.choice.candidate.flash for layer in schedule.layers)
    if flash > board.flash.size:
        worst_layer = max(schedule.layers, key=lambda layer: layer.choice.candidate.flash)
        step = schedule.program.steps[worst_layer.choice.steps[0]]
        raise DoesNotFit(
            f"{name} needs at least {flash:,} B of flash for weights and code, "
            f"{flash - board.flash.size:,} B more than the {board.flash.size:,} B of {board.name}. "
            f"The largest layer is {step.label} with {worst_layer.choice.candidate.flash:,} B. "
            "Fewer channels there, or int4 weights, would help."
        )


class TinyEngine:
    """Generates C that is specialised for one network and one board."""

    name = "tinyengine"

    def generate(self, graph: Graph, board: Board, options: Options) -> Sources:
        """The network as C; UnsupportedOperator or DoesNotFit before anything is built."""
        schedule = schedule_graph(graph, board, options)
        refuse_if_too_big(schedule, board)
        return _sources(schedule, emit(schedule, board.title), options)

    def generate_together(
        self, graphs: Mapping[str, Graph], board: Board, options: Options
    ) -> tuple[Sources, ...]:
        """Several networks, by name, as one program with one arena: what `generate` says of each, all with
        the same files. Any of them stands for the whole if its `arena` is that of the largest."""
        schedules = {name: schedule_graph(graph, board, options) for name, graph in graphs.items()}
        for schedule in schedules.values():
            refuse_if_too_big(schedule, board)
        generated = emit_together(schedules, board.title)
        return tuple(
            replace(_sources(schedule, Generated(generated.files, layers), options), place=place)
            for place, (schedule, layers) in enumerate(zip(schedules.values(), generated.layers, strict=True))
        )


def sources_of(schedule: Schedule, board: Board, options: Options, name: str) -> Sources:
    """A schedule as C, by the engine called `name`."""
    return _sources(schedule, emit(schedule, board.title), options, name)


def _sources(
    schedule: Schedule, generated: Generated, options: Options, name: str = TinyEngine.name
) -> Sources:
    graph = schedule.program.graph
    return Sources(
        engine=name,
        version=VERSION,
        network=graph.name,
        files=generated.files,
        layers=generated.layers,
        inputs=tuple(port(graph, t) for t in graph.inputs),
        outputs=tuple(port(graph, t) for t in graph.outputs),
        arena=schedule.arena,
        guard=schedule.guard,
        buffers=schedule.buffers,
        notes={
            "prefer": options.prefer,
            "planner": f"arena {schedule.arena} B, lower bound {schedule.placement.lower_bound} B",
            "estimated instructions": str(schedule.instructions),
        },
    )
