"""Schedule -> C files: network.h, network.c, layers.h, layers.c and the kernels' helper files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinyhil.harness.engine import Layer, Port
from tinyhil.harness.model.graph import DType, Graph
from tinyhil.harness.tinyengine.ctext import c_float, render, safe_comment
from tinyhil.harness.tinyengine.lowering import Step
from tinyhil.harness.tinyengine.schedule import Layer as ScheduledLayer
from tinyhil.harness.tinyengine.schedule import Schedule


@dataclass(frozen=True)
class Generated:
    """The C files by name, and the layers with their symbols."""

    files: Mapping[str, str]
    layers: tuple[Layer, ...]


def port(graph: Graph, tensor: int) -> Port:
    """A network input or output as the firmware sees it."""
    t = graph.tensors[tensor]
    if t.dtype is DType.FLOAT32 or t.quant is None:
        return Port(t.name, t.shape, t.dtype, t.nbytes)
    return Port(t.name, t.shape, t.dtype, t.nbytes, t.scale, t.zero_point)


def _symbol(position: int, kinds: tuple[str, ...]) -> str:
    return f"layer_{position:02d}_" + "_".join(k.lower() for k in kinds)


def _placed_port(graph: Graph, schedule: Schedule, tensor: int) -> dict[str, object]:
    p = port(graph, tensor)
    return {
        "nbytes": p.nbytes,
        "offset": schedule.tensor_offsets[schedule.program.root[tensor]],
        "scale": c_float(p.scale) if p.scale else "",
        "zero_point": p.zero_point,
    }


def _port_line(what: str, index: int, p: Port) -> str:
    text = f"{what} {index}: {p.dtype.value} {'x'.join(map(str, p.shape))}"
    return text + (f", scale {p.scale:.9g}, zero point {p.zero_point}" if p.scale else "")


def _traffic(graph: Graph, layer: ScheduledLayer, steps: Sequence[Step]) -> int:
    """Bytes of the layer's inputs, of its operators' constants, and of its output."""
    operands = {index for step in steps for index in graph.ops[step.op].inputs if index >= 0}
    constants = {index for index in operands if graph.tensors[index].data is not None}
    return sum(graph.tensors[index].nbytes for index in (*layer.inputs, *constants, layer.output))


def emit(
    schedule: Schedule, target: str, check: Mapping[int, str] | None = None, hooks: str = ""
) -> Generated:
    """All files of the network. `target` is named in the header's comment; `check` gives C text that
    follows a layer's call (tests poison dead bytes with it). With `hooks` the caller adds two functions:
    `int HOOKS_init(void)`, called once, and `int HOOKS_answer(void)`, after each run; 0 is success."""
    program = schedule.program
    graph = program.graph
    calls, layers, definitions, prototypes = [], [], [], []
    files: dict[str, str] = {}
    includes: set[str] = set()
    for position, layer in enumerate(schedule.layers):
        steps = [program.steps[i] for i in layer.choice.steps]
        candidate = layer.choice.candidate
        symbol = _symbol(position, tuple(s.kind for s in steps))
        code = candidate.emit(symbol)
        for name, text in code.files.items():
            if files.setdefault(name, text) != text:
                raise AssertionError(f"two kernels emit different texts called {name}")
        includes.update(code.includes)
        definitions.append(code.definition)
        pointers = [f"a + {schedule.tensor_offsets[t]}" for t in layer.inputs]
        pointers.append(f"a + {schedule.tensor_offsets[layer.output]}")
        parameters = [f"const int8_t *x{i}" for i in range(len(layer.inputs))] + ["int8_t *y"]
        if candidate.scratch:
            pointers.append(f"arena + {schedule.scratch_offsets[position]}")
            parameters.append("uint8_t *scratch")
        prototypes.append(f"void {symbol}({', '.join(parameters)});")
        label = safe_comment(" + ".join(s.label for s in steps))
        top = candidate.scratch and schedule.scratch_offsets[position] + candidate.scratch == schedule.arena
        calls.append(
            {
                "touch": bool(top),
                "text": f"{symbol}({', '.join(pointers)});",
                "label": label,
                "check": (check or {}).get(position, ""),
            }
        )
        macs = sum(s.macs for s in steps)
        kinds = "+".join(s.kind for s in steps)
        layers.append(Layer(label, kinds, symbol, macs, candidate.kernel, _traffic(graph, layer, steps)))
    inputs = [_placed_port(graph, schedule, t) for t in graph.inputs]
    outputs = [_placed_port(graph, schedule, t) for t in graph.outputs]
    name = safe_comment(graph.name) or "network"
    lines = [_port_line("input", i, port(graph, t)) for i, t in enumerate(graph.inputs)]
    lines += [_port_line("output", i, port(graph, t)) for i, t in enumerate(graph.outputs)]
    common = {"name": name, "inputs": inputs, "outputs": outputs}
    files["network.h"] = render(
        "network.h.j2",
        **common,
        target=target,
        align=16,
        ports=lines,
        arena=max(schedule.arena, 1),
        layers=len(calls),
    )
    files["network.c"] = render("network.c.j2", **common, calls=calls, signed=bool(calls))
    files["th_network.c"] = render("th_network.c.j2", **common, hooks=hooks)
    head = "\n".join(f"#include {i}" for i in sorted(includes, key=lambda i: (i[0] != "<", i)))
    files["layers.h"] = (
        "/* One function per layer. */\n#ifndef LAYERS_H\n#define LAYERS_H\n\n#include <stdint.h>\n\n"
        + "\n".join(prototypes)
        + "\n\n#endif\n"
    )
    files["layers.c"] = (
        f'/* {name}: its layers, in the order they run. */\n#include "layers.h"\n\n{head}\n\n'
        + "\n".join(definitions)
    )
    return Generated(dict(sorted(files.items())), tuple(layers))
