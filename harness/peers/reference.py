"""The baseline: plain portable C of each operator, in the order and with the operators of the file.

No pass, no choice of kernels, no buffer over another's place; only lifetimes are used. What the other
engines gain, they gain over this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Options, Sources
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.tinyengine.engine import TinyEngine

EVERYTHING = frozenset({"passes", "kernels", "overlap"})


class ReferenceEngine:
    """TinyEngine with every optimisation turned off."""

    name = "reference"

    def generate(self, graph: Graph, board: Board, options: Options) -> Sources:
        """The network as plain C."""
        plain = replace(options, prefer="speed", disabled=options.disabled | EVERYTHING)
        return replace(TinyEngine().generate(graph, board, plain), engine=self.name)


def create(table: Mapping[str, Any]) -> ReferenceEngine:
    """The engine as harness.engines finds it; it has no settings of its own."""
    del table
    return ReferenceEngine()
