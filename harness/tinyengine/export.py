"""Networks as a C project that people can take away: no harness in it, nothing to install but a compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Options, Sources
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.tinyengine.ctext import render, safe_comment
from tinyhil.harness.tinyengine.detect import Head, detect_files
from tinyhil.harness.tinyengine.emit import c_names
from tinyhil.harness.tinyengine.engine import TinyEngine

HARNESS_ONLY = ("th_network.c",)


def export_c(
    graphs: Mapping[str, Graph], board: Board, options: Options, head: Head | None = None
) -> Mapping[str, str]:
    """Files of the project by relative name: src/ with the networks and an example, README.md,
    platformio.ini. One network is called `network` in C, several `network_NAME`, after their keys, and
    share one arena. With `head` the one network is a detector, and network_detect.c finds its boxes. Raises
    what TinyEngine raises."""
    engine = TinyEngine()
    if len(graphs) == 1:
        parts: Sequence[Sources] = [engine.generate(graph, board, options) for graph in graphs.values()]
        prefixes = ["network"]
    else:
        parts = engine.generate_together(graphs, board, options)
        prefixes = [f"network_{name}" for name in c_names(graphs)]
    files = {f"src/{name}": text for name, text in parts[0].files.items() if name not in HARNESS_ONLY}
    values = {
        "board": board,
        "networks": [
            _words(sources, prefix) | {"stream": bool(graph.states)}
            for sources, prefix, graph in zip(parts, prefixes, graphs.values(), strict=True)
        ],
        "arena": max(sources.arena or 0 for sources in parts),
        "cflags": " ".join(parts[0].cflags),
        "flags": _flags(board, parts[0]),
        "head": head,
    }
    if head is not None:
        if len(graphs) != 1:
            raise UsageError("boxes are found for one network, not for several in one project")
        found = detect_files(head, parts[0].outputs[0], parts[0].network)
        files |= {f"src/{name}": text for name, text in found.items()}
    files["src/main.c"] = render("example.c.j2", **values)
    files["README.md"] = render("project.md.j2", **values)
    files["platformio.ini"] = render("project.ini.j2", **values)
    return dict(sorted(files.items()))


def _words(sources: Sources, prefix: str) -> dict[str, object]:
    """What the project's own files say of one network."""
    return {
        "name": safe_comment(sources.network) or "network",
        "prefix": prefix,
        "macro": prefix.upper(),
        "inputs": sources.inputs,
        "outputs": sources.outputs,
        "arena": sources.arena,
        "macs": sum(layer.macs for layer in sources.layers),
        "layers": len(sources.layers),
        "shapes": [_shape(p.shape) for p in (*sources.inputs, *sources.outputs)],
    }


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _flags(board: Board, sources: Sources) -> str:
    if board.is_native:
        return " ".join(sources.cflags)
    fpu = f" -mfpu={board.fpu} -mfloat-abi=hard" if board.fpu else ""
    return f"-mcpu={board.core} -mthumb{fpu} {' '.join(sources.cflags)}"
