"""Graph -> graph: each pass keeps the function of the network bit for bit and makes it cheaper.

A pass is a pure function; its name in PASSES is what `Options.disabled` turns off, "passes" all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tinyhil.harness.engine import Options
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.tinyengine.passes.activations import fuse_activation
from tinyhil.harness.tinyengine.passes.channels import drop_channels
from tinyhil.harness.tinyengine.passes.edit import drop_unused, fold_constants
from tinyhil.harness.tinyengine.passes.moves import drop_noop, sink_transpose
from tinyhil.harness.tinyengine.passes.pads import fold_pad
from tinyhil.harness.tinyengine.passes.ports import strip_float_io

Pass = Callable[[Graph], Graph]

PASSES: Mapping[str, Pass] = {
    "fold-constants": fold_constants,
    "fuse-activation": fuse_activation,
    "sink-transpose": sink_transpose,
    "drop-noop": drop_noop,
    "fold-pad": fold_pad,
    "dead-channels": drop_channels,
    "drop-unused": drop_unused,
}


def optimise(graph: Graph, options: Options) -> Graph:
    """All passes that are not disabled, in the order of PASSES; float ports become int8 unless
    `options.float_io`, which is a wish of the user and no optimisation."""
    if not options.float_io:
        graph = strip_float_io(graph)
    if "passes" in options.disabled:
        return graph
    for name, run in PASSES.items():
        if name not in options.disabled:
            graph = run(graph)
    return graph


__all__ = ["PASSES", "Pass", "optimise", "strip_float_io"]
