"""A whole engine: networks that are one RELU, as plain C. Copy this folder to start one of your own.

In tinyhil.toml beside this file:

    [engines.toy]
    factory = "toy_engine:create"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyhil.errors import UnsupportedOperator
from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Layer, Options, Port, Sources
from tinyhil.harness.model.graph import Activation, Graph, Relu

NETWORK = """\
#include "tinyhil_network.h"

/* Input and output lie in `.arena`: the runtime paints it before a run and looks at it afterwards. */
__attribute__((section(".arena"), aligned(16))) static struct {{
    int8_t input[{size}];
    int8_t output[{size}];
}} arena;

static const struct th_port inputs[] = {{{{arena.input, {size}}}}};
static const struct th_port outputs[] = {{{{arena.output, {size}}}}};

/* {name}: the layer. Its entry is where the harness begins to count for it. */
__attribute__((noinline)) void toy_relu(const int8_t *in, int8_t *out);
void toy_relu(const int8_t *in, int8_t *out)
{{
    TH_LAYER(0);
    for (int i = 0; i < {size}; i++)
        out[i] = in[i] < {zero} ? {zero} : in[i];
}}

static int run(void)
{{
    toy_relu(arena.input, arena.output);
    return 0;
}}

const struct th_network th_network = {{
    .arena = (uint8_t *)&arena,
    .arena_size = sizeof arena,
    .inputs = inputs,
    .outputs = outputs,
    .input_count = 1,
    .output_count = 1,
    .layer_count = 1,
    .run = run,
}};
"""


class ToyEngine:
    """Knows one operator, and refuses all others by name."""

    name = "toy"

    def generate(self, graph: Graph, board: Board, options: Options) -> Sources:
        """The C of `graph`; UnsupportedOperator if it is more than one RELU that keeps the scale."""
        ports = []
        for index in (*graph.inputs, *graph.outputs):
            tensor = graph.tensors[index]
            ports.append(
                Port(tensor.name, tensor.shape, tensor.dtype, tensor.nbytes, tensor.scale, tensor.zero_point)
            )
        source, result = ports
        known = [op.spec for op in graph.ops] == [Relu(Activation.RELU)]
        if not known or (source.scale, source.zero_point) != (result.scale, result.zero_point):
            raise UnsupportedOperator(f"{graph.name}: the toy engine runs networks that are one RELU")
        text = NETWORK.format(size=source.nbytes, zero=source.zero_point, name="RELU")
        return Sources(
            engine=self.name,
            version="1",
            network=graph.name,
            files={"network.c": text},
            layers=(Layer("Relu", "Relu", "toy_relu", macs=0, kernel="plain"),),
            inputs=(source,),
            outputs=(result,),
            arena=2 * source.nbytes,
        )


def create(table: Mapping[str, Any]) -> ToyEngine:
    """The engine; `table` is the user's [engines.toy] table."""
    del table
    return ToyEngine()
