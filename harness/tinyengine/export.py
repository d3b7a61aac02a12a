"""A network as a C project that people can take away: no harness in it, nothing to install but a compiler."""

from __future__ import annotations

from collections.abc import Mapping

from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Options, Sources
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.tinyengine.ctext import render, safe_comment
from tinyhil.harness.tinyengine.engine import TinyEngine

HARNESS_ONLY = ("th_network.c",)


def export_c(graph: Graph, board: Board, options: Options) -> Mapping[str, str]:
    """Files of the project by relative name: src/ with the network and an example, README.md,
    platformio.ini. Raises what TinyEngine raises."""
    sources = TinyEngine().generate(graph, board, options)
    files = {f"src/{name}": text for name, text in sources.files.items() if name not in HARNESS_ONLY}
    values = {
        "name": safe_comment(graph.name) or "network",
        "board": board,
        "inputs": sources.inputs,
        "outputs": sources.outputs,
        "arena": sources.arena,
        "cflags": " ".join(sources.cflags),
        "macs": sum(layer.macs for layer in sources.layers),
        "layers": len(sources.layers),
        "shapes": [_shape(p.shape) for p in (*sources.inputs, *sources.outputs)],
    }
    files["src/main.c"] = render("example.c.j2", **values)
    files["README.md"] = render("project.md.j2", **values)
    files["platformio.ini"] = render("project.ini.j2", **values, flags=_flags(board, sources))
    return dict(sorted(files.items()))


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _flags(board: Board, sources: Sources) -> str:
    if board.is_native:
        return " ".join(sources.cflags)
    fpu = f" -mfpu={board.fpu} -mfloat-abi=hard" if board.fpu else ""
    return f"-mcpu={board.core} -mthumb{fpu} {' '.join(sources.cflags)}"
