"""The engine `tflm`: TensorFlow Lite for Microcontrollers, linked from the user's library kit.

The .tflite file is embedded as it is, and interpreted with the operators it uses and no others. The arena
is as small as the interpreter takes it, found by bisection to the byte: a program that does nothing but
that runs in the emulator first. Each operator marks its layer as it is invoked; what the interpreter does
between two operators belongs to the first.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tflite

from tinyhil.errors import DoesNotFit, MissingTool, UnsupportedOperator
from tinyhil.harness.boards import Board
from tinyhil.harness.build import Program, build
from tinyhil.harness.build.fit import arena_room
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Layer, Options, Port, Sources
from tinyhil.harness.model.graph import DType, Graph
from tinyhil.harness.model.tflite_writer import write_tflite
from tinyhil.harness.peers.kit import Kit, find_kit, kit_notes, members
from tinyhil.harness.settings import load_settings
from tinyhil.harness.targets.native import NativeTarget
from tinyhil.harness.targets.qemu import QemuTarget
from tinyhil.harness.targets.target import Job, Target
from tinyhil.harness.tinyengine.ctext import c_array, render, safe_comment
from tinyhil.harness.tinyengine.emit import port

NAME = "tflm"
CFLAGS = ("-O2",)
_STATIC = 24 * 1024  # bytes that the probe leaves beside its arena for static data of library and harness
_MOST = 4 << 20  # bytes of arena that are tried on the host

# The resolver's method for each operator that the reader knows (micro_mutable_op_resolver.h).
METHODS = {
    "ADD": "AddAdd",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "DEQUANTIZE": "AddDequantize",
    "EXPAND_DIMS": "AddExpandDims",
    "FULLY_CONNECTED": "AddFullyConnected",
    "HARD_SWISH": "AddHardSwish",
    "LEAKY_RELU": "AddLeakyRelu",
    "LOGISTIC": "AddLogistic",
    "MAXIMUM": "AddMaximum",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MINIMUM": "AddMinimum",
    "MUL": "AddMul",
    "PACK": "AddPack",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "PRELU": "AddPrelu",
    "QUANTIZE": "AddQuantize",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "RESIZE_BILINEAR": "AddResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "AddResizeNearestNeighbor",
    "SHAPE": "AddShape",
    "SLICE": "AddSlice",
    "SOFTMAX": "AddSoftmax",
    "SPLIT": "AddSplit",
    "SPLIT_V": "AddSplitV",
    "SQUEEZE": "AddSqueeze",
    "STRIDED_SLICE": "AddStridedSlice",
    "SUB": "AddSub",
    "TANH": "AddTanh",
    "TRANSPOSE": "AddTranspose",
    "UNPACK": "AddUnpack",
}


@dataclass(frozen=True)
class Arena:
    """What the interpreter needs for one network, in bytes; `working` of them do not outlive an inference."""

    needed: int
    working: int


class Tflm:
    """Embeds the model file and the interpreter. `table` is the user's `[engines.tflm]` table."""

    name = NAME

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table

    def generate(self, graph: Graph, board: Board, options: Options) -> Sources:
        """The network as C++; MissingTool or UsageError without a fitting kit; DoesNotFit."""
        del options
        kit = find_kit(NAME, self._table, board)
        if not board.is_native:
            _check_cxx()
        file = graph.file or write_tflite(graph)
        names = operator_names(file)
        room = min(arena_room(board) - _STATIC, _MOST)
        draft = _sources(graph, board, kit, file, names, arena=room, probe=True)
        arena = find_arena(draft, board)
        if arena.needed == 0:
            raise DoesNotFit(
                f"{graph.name}: the interpreter needs over {room:,} bytes of arena, "
                f"which {board.name} has not. A board with more RAM would help."
            )
        sources = _sources(graph, board, kit, file, names, arena=arena.needed, probe=False)
        return replace(
            sources,
            arena=arena.needed,
            notes={
                **sources.notes,
                "arena_needed": str(arena.needed),
                "arena_non_persistent": str(arena.working),
                "arena_persistent": str(arena.needed - arena.working),
            },
        )


def operator_names(file: bytes) -> list[str]:
    """TFLite's name of every operator in the file, in the order in which they run (the file has been read
    before, so it is sound). UnsupportedOperator names one that the adapter cannot register."""
    model: Any = tflite.Model.GetRootAs(file, 0)
    subgraph = model.Subgraphs(0)
    words = {value: key for key, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
    names = []
    for i in range(subgraph.OperatorsLength()):
        code = model.OperatorCodes(subgraph.Operators(i).OpcodeIndex())
        name = words.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "CUSTOM")
        if name not in METHODS:
            raise UnsupportedOperator(f"the engine tflm cannot register {name} (operator {i})")
        names.append(name)
    return names


def find_arena(probe: Sources, board: Board) -> Arena:
    """Runs the probing program in the board's emulator twin, or on the host."""
    cache = load_settings(Path.cwd()).cache
    program = Program(probe, board, emulated=not board.is_native)
    (firmware,) = build([program], Deadline.after(300), cache_dir=cache)
    if isinstance(firmware, Exception):
        raise firmware
    target: Target = NativeTarget() if board.is_native else QemuTarget(cache)
    run = target.run(firmware, Job(((),)), Deadline.after(120))
    return Arena(*struct.unpack("<2I", run.outputs[0][0]))


def _sources(
    graph: Graph, board: Board, kit: Kit, file: bytes, names: list[str], *, arena: int, probe: bool
) -> Sources:
    operators = [{"name": name, "method": METHODS[name]} for name in sorted(set(names))]
    main = render(
        "tflm_network.cc.j2",
        name=safe_comment(graph.name) or "network",
        operators=operators,
        arena=arena,
        probe=probe,
        inputs=len(graph.inputs),
        outputs=len(graph.outputs),
        layers=0 if probe else len(names),
    )
    values = c_array(np.frombuffer(file, np.uint8))
    model = (
        f"/* The model file, {len(file)} bytes. */\n"
        f"__attribute__((aligned(16))) const unsigned char tflm_model[] = {{\n{values}\n}};\n"
    )
    result = Port("result", (8,), DType.UINT8, 8)
    return Sources(
        engine=NAME,
        version=kit.version,
        network=graph.name,
        files={"tflm_network.cc": main, "tflm_model.c": model},
        layers=() if probe else _layers(graph, names),
        inputs=() if probe else tuple(port(graph, t) for t in graph.inputs),
        outputs=(result,) if probe else tuple(port(graph, t) for t in graph.outputs),
        arena=None,
        includes=kit.includes,
        libraries=kit.libraries,
        defines=kit.defines,
        cflags=CFLAGS,
        notes={**kit_notes(kit, board, CFLAGS), "graph": "as in the file", "library_kernels": _kernels(kit)},
    )


def _layers(graph: Graph, names: list[str]) -> tuple[Layer, ...]:
    """One per operator of the file; its multiply-accumulates where the graph has the same operators."""
    same = len(graph.ops) == len(names)
    layers = []
    for index, name in enumerate(names):
        op = graph.ops[index] if same else None
        kind = op.kind if op else name
        shape = graph.tensors[op.outputs[0]].shape[1:] if op else ()
        label = f"{kind} -> {'x'.join(map(str, shape))}" if shape else kind
        layers.append(Layer(label, kind, "tflm_layer", graph.macs(op) if op else 0, name))
    return tuple(layers)


def _kernels(kit: Kit) -> str:
    return "cmsis-nn" if any(o.name.startswith("arm_convolve") for o in members(kit)) else "reference"


def _check_cxx() -> None:
    """MissingTool unless the cross compiler has its C++ library."""
    command = ["arm-none-eabi-g++", "-print-file-name=libstdc++_nano.a"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout
    except OSError:
        said = ""
    if not Path(said.strip()).is_absolute():
        raise MissingTool(
            "engine tflm is C++, and arm-none-eabi-g++ or its library is missing: "
            "apt install gcc-arm-none-eabi libstdc++-arm-none-eabi-newlib"
        )


def create(table: Mapping[str, Any]) -> Tflm:
    """The engine `tflm`."""
    return Tflm(table)
