"""Graph -> graph, bit for bit the same function of its inputs. Each pass has a name for Options.disabled."""

from __future__ import annotations

from tinyhil.harness.engine import Options
from tinyhil.harness.model.graph import Graph


def optimise(graph: Graph, options: Options) -> Graph:
    """All passes that are not disabled."""
    return graph
