"""Schedule -> C files: network.h, network.c, layers.h, layers.c and the kernels' helper files.

Several networks can share one program: each gets its own files and names (network_kws.h, layers_kws.c),
helper files and equal functions exist once, and one arena serves all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count

from tinyhil.harness.engine import Layer, Port
from tinyhil.harness.model.graph import DType, Graph
from tinyhil.harness.tinyengine.ctext import c_float, c_name, render, safe_comment
from tinyhil.harness.tinyengine.lowering import Step
from tinyhil.harness.tinyengine.schedule import Layer as ScheduledLayer
from tinyhil.harness.tinyengine.schedule import Schedule

ALIGN = 16  # of the arena, in bytes


@dataclass(frozen=True)
class Generated:
    """The C files by name, and the layers with their symbols."""

    files: Mapping[str, str]
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Together:
    """The C files of several networks, and the layers of each."""

    files: Mapping[str, str]
    layers: tuple[tuple[Layer, ...], ...]


@dataclass(frozen=True)
class _Part:
    """One network's own files and helper files, its layers, and what templates say of it."""

    files: Mapping[str, str]
    layers: tuple[Layer, ...]
    words: Mapping[str, object]


def port(graph: Graph, tensor: int) -> Port:
    """A network input or output as the firmware sees it."""
    t = graph.tensors[tensor]
    if t.dtype is DType.FLOAT32 or t.quant is None:
        return Port(t.name, t.shape, t.dtype, t.nbytes)
    return Port(t.name, t.shape, t.dtype, t.nbytes, t.scale, t.zero_point)


def _placed_port(graph: Graph, schedule: Schedule, tensor: int) -> dict[str, object]:
    p = port(graph, tensor)
    return {
        "nbytes": p.nbytes,
        "offset": schedule.tensor_offsets[schedule.program.root[tensor]],
        "scale": c_float(p.scale) if p.scale else "",
        "zero_point": p.zero_point,
    }


def _port_lines(graph: Graph) -> Iterable[str]:
    """All ports for the header's comment."""
    kept = [("input", s.input) for s in graph.states] + [("output", s.output) for s in graph.states]
    for what, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for index, tensor in enumerate(tensors):
            p = port(graph, tensor)
            text = f"{what} {index}: {p.dtype.value} {'x'.join(map(str, p.shape))}"
            text += f", scale {p.scale:.9g}, zero point {p.zero_point}" if p.scale else ""
            yield text + (", state" if (what, index) in kept else "")


def _states(graph: Graph) -> list[dict[str, object]]:
    """Each state's ports, its place in the caller's bytes, its size and start."""
    found: list[dict[str, object]] = []
    at = 0
    for state in graph.states:
        values = {"input": state.input, "output": state.output, "start": state.start}
        found.append({**values, "at": at, "uniform": bool((state.start == state.start.flat[0]).all())})
        at += state.start.nbytes
    return found


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
    part = _part(schedule, target, "", check or {}, {})
    runtime = render("th_network.c.j2", networks=[part.words], arena="NETWORK_ARENA_SIZE", hooks=hooks)
    return Generated(dict(sorted({**part.files, "th_network.c": runtime}.items())), part.layers)


def emit_together(schedules: Mapping[str, Schedule], target: str) -> Together:
    """All files of several networks by name, each called network_NAME, and networks.h for all of them."""
    functions: dict[str, str] = {}
    names = c_names(schedules)
    parts = [
        _part(schedule, target, f"_{name}", {}, functions)
        for name, schedule in zip(names, schedules.values(), strict=True)
    ]
    files: dict[str, str] = {}
    for part in parts:
        _merge(files, part.files)
    words = [part.words for part in parts]
    arena = max(schedule.arena for schedule in schedules.values())
    together = {"networks": words, "arena": max(arena, 1), "align": ALIGN}
    files["networks.h"] = render("networks.h.j2", **together)
    files["networks.c"] = render("networks.c.j2", **together)
    files["th_network.c"] = render(
        "th_network.c.j2", networks=words, arena="NETWORKS_ARENA_SIZE", hooks="", together=True
    )
    return Together(dict(sorted(files.items())), tuple(part.layers for part in parts))


def c_names(names: Iterable[str]) -> list[str]:
    """A C name for each network; a number tells those apart that would be the same."""
    found: list[str] = []
    for name in names:
        plain = c_name(name)
        found.append(next(n for n in chain((plain,), (f"{plain}_{i}" for i in count(2))) if n not in found))
    return found


def _merge(files: dict[str, str], more: Mapping[str, str]) -> None:
    for name, text in more.items():
        if files.setdefault(name, text) != text:
            raise AssertionError(f"two kernels emit different texts called {name}")


def _part(
    schedule: Schedule, target: str, suffix: str, check: Mapping[int, str], functions: dict[str, str]
) -> _Part:
    """One network, its names ending in `suffix`. `functions` knows the definitions that are there already,
    their symbol left out, and the symbol; new ones are added."""
    program = schedule.program
    graph = program.graph
    calls, layers, definitions, prototypes = [], [], [], []
    files: dict[str, str] = {}
    includes: set[str] = set()
    for position, layer in enumerate(schedule.layers):
        steps = [program.steps[i] for i in layer.choice.steps]
        candidate = layer.choice.candidate
        own = f"layer{suffix}_{position:02d}_" + "_".join(s.kind.lower() for s in steps)
        code = candidate.emit(own)
        symbol = functions.setdefault(code.definition.replace(own, "@"), own)
        if symbol == own:
            definitions.append(code.definition)
            includes.update(code.includes)
        _merge(files, code.files)
        pointers = [f"a + {schedule.tensor_offsets[t]}" for t in layer.inputs]
        pointers.append(f"a + {schedule.tensor_offsets[layer.output]}")
        parameters = [f"const int8_t *x{i}" for i in range(len(layer.inputs))] + ["int8_t *y"]
        if candidate.scratch:
            pointers.append(f"arena + {schedule.scratch_offsets[position]}")
            parameters.append("uint8_t *scratch")
        prototypes.append(f"void {symbol}({', '.join(parameters)});")
        label = safe_comment(" + ".join(s.label for s in steps))
        calls.append(
            {
                "text": f"{symbol}({', '.join(pointers)});",
                "label": label,
                "check": check.get(position, ""),
            }
        )
        macs = sum(s.macs for s in steps)
        kinds = "+".join(s.kind for s in steps)
        layers.append(Layer(label, kinds, symbol, macs, candidate.kernel, _traffic(graph, layer, steps)))
    name = safe_comment(graph.name) or "network"
    words: dict[str, object] = {
        "name": name,
        "prefix": f"network{suffix}",
        "macro": f"NETWORK{suffix.upper()}",
        "layers_file": f"layers{suffix}",
        "inputs": [_placed_port(graph, schedule, t) for t in graph.inputs],
        "outputs": [_placed_port(graph, schedule, t) for t in graph.outputs],
        "arena": max(schedule.arena, 1),
        "states": _states(graph),
        "state_bytes": sum(state.start.nbytes for state in graph.states),
    }
    lines = list(_port_lines(graph))
    files[f"network{suffix}.h"] = render(
        "network.h.j2", **words, target=target, align=ALIGN, ports=lines, layers=len(calls)
    )
    files[f"network{suffix}.c"] = render("network.c.j2", **words, calls=calls, signed=bool(calls))
    files[f"layers{suffix}.h"] = _layers_header(f"LAYERS{suffix.upper()}_H", prototypes)
    head = "\n".join(f"#include {i}" for i in sorted(includes, key=lambda i: (i[0] != "<", i)))
    files[f"layers{suffix}.c"] = (
        f'/* {name}: its layers, in the order they run. */\n#include "layers{suffix}.h"\n\n{head}\n\n'
        + "\n".join(definitions)
    )
    return _Part(files, tuple(layers), words)


def _layers_header(guard: str, prototypes: Sequence[str]) -> str:
    return (
        f"/* One function per layer. */\n#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n"
        + "\n".join(dict.fromkeys(prototypes))
        + "\n\n#endif\n"
    )
