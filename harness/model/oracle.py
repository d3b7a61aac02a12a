"""What the correct output is, and who says so: TFLM itself where its wheel is installed, otherwise the
reference interpreter, which the tests hold equal to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tflite

from tinyhil import __version__
from tinyhil.errors import MissingTool, UnsupportedOperator
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.reference import Interpreter
from tinyhil.harness.model.tflite_reader import read_tflite

Array: TypeAlias = npt.NDArray[Any]
Run: TypeAlias = Callable[[Sequence[Array]], list[Array]]

FIRST_ARENA = 16 << 20  # enough for nearly all; pages that are not touched cost nothing
LARGEST_ARENA = 256 << 20
TRIAL_SECONDS = 120


def has_tflm() -> bool:
    """Whether the `tflite-micro` wheel is installed."""
    try:
        metadata.version("tflite-micro")
    except metadata.PackageNotFoundError:
        return False
    return True


def tflm_run(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """Outputs of TFLM's reference kernels for a trusted .tflite file, one array per network input.

    The wheel is C++ and believes its file: read `model` with `read_tflite` first. Raises MissingTool
    without the wheel and UnsupportedOperator where TFLM refuses the network.
    """
    try:
        from tflite_micro.python.tflite_micro import runtime
    except ImportError:
        raise MissingTool(
            "The reference kernels of TFLM are not installed: pip install 'tinyhil[oracle]'."
        ) from None
    interpreter = _interpreter(runtime, bytes(model))
    for index, array in enumerate(inputs):
        interpreter.set_input(np.ascontiguousarray(array), index)
    interpreter.invoke()
    count = tflite.Model.GetRootAs(model, 0).Subgraphs(0).OutputsLength()
    return [np.array(interpreter.get_output(i)) for i in range(count)]


def _interpreter(runtime: Any, model: bytes) -> Any:
    """TFLM does not say how much memory it wants, only that it was not enough."""
    arena = FIRST_ARENA
    while True:
        try:
            return runtime.Interpreter.from_bytes(model, arena_size=arena)
        except RuntimeError as error:
            arena *= 16
            if arena > LARGEST_ARENA:
                raise UnsupportedOperator(
                    f"TFLM refuses this network ({error}); its own words are on standard error."
                ) from None


def reference_for(model: bytes, graph: Graph) -> tuple[str, Run]:
    """Who computes the reference (name and version), and the function that does it.

    `model` is the file that `graph` was read from. The wheel is used where it is installed and runs the
    network; the reference interpreter where not. The wheel is C++ that trusts its file, so it meets a
    file for the first time in a process of its own.
    """
    if has_tflm() and _survives(bytes(model)):
        return f"tflite-micro {metadata.version('tflite-micro')}", lambda arrays: tflm_run(model, arrays)
    interpreter = Interpreter(graph)
    return f"tinyhil reference {__version__}", lambda arrays: interpreter(*arrays)


def _survives(model: bytes) -> bool:
    """Whether TFLM runs the file on zeros, tried in a child process."""
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", f"from {__name__} import trial; trial()"],
            input=model, capture_output=True, timeout=TRIAL_SECONDS, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return child.returncode == 0


def trial() -> None:
    """Runs the model on standard input once, on zeros; the body of the child process."""
    model = sys.stdin.buffer.read()
    graph = read_tflite(model, "trial")
    tflm_run(model, [np.zeros(graph.tensors[i].shape, graph.tensors[i].dtype.numpy) for i in graph.inputs])
