"""The engine `external`: a network that some other tool or a person has written.

The user's table says where it is, per network:

    [engines.external.my_network]         # the name of the .tflite file, without its ending
    sources = ["aot/*.c", "wrapper.c"]    # C, C++ or assembler; with the headers beside them
    includes = ["aot/include"]            # optional
    libraries = ["aot/libmodel.a"]        # optional
    flags = ["-O3"]                       # optional
    layers = ["conv1", "conv2"]           # optional: C functions that are entered once per run, in order

    [engines.external.other_network]
    elf = "firmware.elf"                  # a finished program that was linked with tinyhil's runtime

The sources define `const struct th_network th_network` (firmware_templates/runtime/tinyhil_network.h);
docs/examples/external/wrapper.c is one to start from. Inputs and outputs have the model file's types;
outputs are compared with the reference as everybody's are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Layer, Options, Sources
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.tinyengine.emit import port
from tinyhil.results.record import EngineId

NAME = "external"
_KEYS = ("sources", "includes", "libraries", "flags", "defines", "layers", "elf", "version", "name")
_SUFFIXES = (".c", ".cc", ".cpp", ".S", ".s", ".h", ".hpp", ".inc")


class External:
    """Takes a network's program from where the user's table points to."""

    name = NAME

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table

    def identity(self, graph: Graph) -> EngineId:
        """What the network's table calls itself; `external` where there is none."""
        entry = self._table.get(graph.name)
        told = entry if isinstance(entry, Mapping) else {}
        return EngineId(str(told.get("name", NAME)), str(told.get("version", "")))

    def generate(self, graph: Graph, board: Board, options: Options) -> Sources:
        """The user's sources or program for `graph`; UsageError if there are none or a key is wrong."""
        del board, options
        entry = self._table.get(graph.name)
        if not isinstance(entry, Mapping):
            known = ", ".join(key for key, value in self._table.items() if isinstance(value, Mapping))
            raise UsageError(
                f"engine external has no [engines.external.{graph.name}] table in tinyhil.toml "
                f"(there is {known or 'none'}); docs/engines-peers.md shows one"
            )
        where = f"[engines.external.{graph.name}]"
        unknown = sorted(set(entry) - set(_KEYS))
        if unknown:
            raise UsageError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}")
        if ("elf" in entry) == ("sources" in entry):
            raise UsageError(f"{where}: give either `sources` or `elf`")
        identity = self.identity(graph)
        files = _files(where, _texts(where, entry, "sources"))
        layers = _texts(where, entry, "layers")
        return Sources(
            engine=identity.name,
            version=identity.version,
            network=graph.name,
            files=files,
            layers=tuple(Layer(symbol, "", symbol, 0) for symbol in layers),
            inputs=tuple(port(graph, t) for t in graph.inputs),
            outputs=tuple(port(graph, t) for t in graph.outputs),
            arena=None,
            includes=_paths(where, _texts(where, entry, "includes")),
            libraries=_paths(where, _texts(where, entry, "libraries")),
            defines=_texts(where, entry, "defines"),
            cflags=_texts(where, entry, "flags") or ("-O2",),
            elf=_paths(where, [str(entry["elf"])])[0] if "elf" in entry else None,
        )


def _texts(where: str, entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = entry.get(key, ())
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{where}: {key} must be a list of texts, not {value!r}")
    return tuple(value)


def _paths(where: str, names: Sequence[str]) -> tuple[Path, ...]:
    paths = tuple(Path(name).expanduser().resolve() for name in names)
    for path in paths:
        if not path.exists():
            raise UsageError(f"{where}: there is no {path}")
    return paths


def _files(where: str, patterns: Sequence[str]) -> dict[str, str]:
    """Name → text of the sources and of the headers that lie beside them."""
    found: dict[str, str] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        matches = sorted(path.parent.glob(path.name))
        if not matches:
            raise UsageError(f"{where}: no file matches {path.resolve()}")
        beside = [p for p in sorted(path.parent.iterdir()) if p.suffix in (".h", ".hpp", ".inc")]
        for file in (*matches, *beside):
            if file.suffix not in _SUFFIXES:
                raise UsageError(f"{where}: {file} is no C, C++ or assembler source")
            text = file.read_text(encoding="utf-8")
            if found.setdefault(file.name, text) != text:
                raise UsageError(f"{where}: two different files are called {file.name}")
    return found


def create(table: Mapping[str, Any]) -> External:
    """The engine `external`."""
    return External(table)
