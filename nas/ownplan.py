"""The engine's plan of a network whose weights are known: what its firmware runs, layer for layer.

Weights may tip the choice of kernels. Before there are any, a plan is for typical ones (planning.py); this
one is no prediction.
"""

from __future__ import annotations

from dataclasses import replace

from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Options
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.tinyengine.engine import schedule_graph
from tinyhil.harness.tinyengine.lowering import Step
from tinyhil.harness.tinyengine.work import ConvWork, DepthwiseWork
from tinyhil.nas.arch import Arch, Layer, layers
from tinyhil.nas.planning import Planned, planned


def plan_of(arch: Arch, graph: Graph, board: Board, options: Options | None = None) -> Planned | None:
    """The plan of `graph`, which is `arch` with weights, on `board`; None where the engine's passes left
    other layers than those of `arch`. Channels that they dropped as dead are dropped from the layers."""
    schedule = schedule_graph(graph, board, options or Options())
    every, steps = layers(arch), schedule.program.steps
    if len(every) != len(steps):
        return None
    run = [_as_run(layer, step) for layer, step in zip(every, steps, strict=True)]
    return planned([layer.choice for layer in schedule.layers], schedule.arena, every, run)


def _as_run(layer: Layer, step: Step) -> Layer:
    if not isinstance(step.work, ConvWork | DepthwiseWork):
        return layer
    return replace(layer, cin=step.work.x.channels, cout=step.work.y.channels)
