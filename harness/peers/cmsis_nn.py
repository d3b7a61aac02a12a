"""The engine `cmsis-nn`: a network as calls of Arm's CMSIS-NN, linked from the user's library kit.

Two engines, so that both can stand in one table. `cmsis-nn` is what a user of the library gets: the
operators of the file as they are, every buffer apart from the others that live with it. `cmsis-nn+passes`
runs our graph passes first (pads folded, activations fused), so that what is left between it and
`tinyengine` is kernels alone. Buffers are placed by our planner in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Options, Sources
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.peers.cmsis_nn_calls import Call, call_of, helpers
from tinyhil.harness.peers.kit import find_kit, kit_notes
from tinyhil.harness.tinyengine.emit import emit, port
from tinyhil.harness.tinyengine.engine import refuse_if_too_big
from tinyhil.harness.tinyengine.kernel import Candidate, Target
from tinyhil.harness.tinyengine.lowering import Program, Step, lower
from tinyhil.harness.tinyengine.passes import optimise
from tinyhil.harness.tinyengine.portable import Portable
from tinyhil.harness.tinyengine.schedule import Choice, Schedule, arrange

NAME = "cmsis-nn"
CFLAGS = ("-O2",)  # of the calls; the library brings its own


class CmsisNN:
    """Generates calls of CMSIS-NN. `table` is the user's `[engines.cmsis-nn]` table."""

    def __init__(self, table: Mapping[str, Any], passes: bool = False) -> None:
        self._table = table
        self._passes = passes
        self.name = NAME + ("+passes" if passes else "")

    def generate(self, graph: Graph, board: Board, options: Options) -> Sources:
        """The network as C that calls the library; MissingTool or UsageError if there is no fitting kit."""
        kit = find_kit(NAME, self._table, board)
        if not self._passes:
            options = replace(options, disabled=options.disabled | {"passes"})
        program = lower(optimise(graph, options))
        candidates = [_candidate(program, step, board) for step in program.steps]
        choices = [Choice((i,), candidate) for i, candidate in enumerate(candidates)]
        schedule = arrange(program, choices, overlap=False)
        refuse_if_too_big(schedule, board)
        generated = emit(schedule, board.title, hooks="cmsis_nn")
        files = {**generated.files, **helpers()}
        files["layers.c"] += _init(schedule, tuple(layer.symbol for layer in generated.layers))
        final = program.graph
        return Sources(
            engine=self.name,
            version=kit.version,
            network=graph.name,
            files=files,
            layers=generated.layers,
            inputs=tuple(port(final, t) for t in final.inputs),
            outputs=tuple(port(final, t) for t in final.outputs),
            arena=schedule.arena,
            guard=schedule.scratch_tail,  # the library names its scratch and may leave some of it alone
            buffers=schedule.buffers,
            includes=kit.includes,
            libraries=kit.libraries,
            defines=kit.defines,
            cflags=CFLAGS,
            notes={
                **kit_notes(kit, board, CFLAGS),
                "graph": "tinyhil's passes" if self._passes else "as in the file",
                "portable_layers": _portable(program, candidates),
            },
        )


def _candidate(program: Program, step: Step, board: Board) -> Candidate:
    """The library's function for a step, or portable C where it has none."""
    call = call_of(program.graph, step)
    if call is not None:
        return call
    return next(iter(Portable().candidates([step.work], Target(board.core))))


def _portable(program: Program, candidates: list[Candidate]) -> str:
    """The kinds of operators that the library does not compute here."""
    kinds = {s.kind for s, c in zip(program.steps, candidates, strict=True) if not isinstance(c, Call)}
    return ", ".join(sorted(kinds)) or "none"


def _init(schedule: Schedule, symbols: tuple[str, ...]) -> str:
    """C of cmsis_nn_init(): asks the library what every layer needs and compares with the plan."""
    lines = [
        "",
        "/* 0, or 1 + the index of a layer for which the library wants more scratch than planned. */",
        "int cmsis_nn_init(void)",
        "{",
    ]
    for index, (layer, symbol) in enumerate(zip(schedule.layers, symbols, strict=True)):
        call = layer.choice.candidate
        if isinstance(call, Call) and call.asks_buffer:
            lines += [f"    if ({symbol}_buffer_size() > {call.scratch})", f"        return {index + 1};"]
    return "\n".join([*lines, "    return 0;", "}", ""])


def create(table: Mapping[str, Any]) -> CmsisNN:
    """The engine `cmsis-nn`."""
    return CmsisNN(table)


def create_with_passes(table: Mapping[str, Any]) -> CmsisNN:
    """The engine `cmsis-nn+passes`."""
    return CmsisNN(table, passes=True)
