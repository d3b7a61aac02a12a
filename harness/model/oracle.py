"""What the correct output is, and who says so: TFLM itself where its wheel is installed, otherwise the
reference interpreter, which the tests hold equal to it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from functools import cache
from importlib import metadata
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tflite

from tinyhil import __version__
from tinyhil.errors import MissingTool, UnsupportedOperator
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.reference import Interpreter

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

    `model` is the file that `graph` was read from. What runs is `graph.file`, which is the same but where the
    file keeps a state, a port of `graph`, or where TFLM is not sure. The wheel is used where it is installed
    and runs the network; the reference interpreter where not. The wheel is C++ that trusts its file, so it
    runs in a process of its own, one for all networks.
    """
    model = graph.file or bytes(model)
    zeros = [np.zeros(graph.tensors[i].shape, graph.tensors[i].dtype.numpy) for i in graph.inputs]
    try:
        if has_tflm():
            tflm_apart(model, zeros)
            return f"tflite-micro {metadata.version('tflite-micro')}", lambda arrays: tflm_apart(
                model, arrays
            )
    except (UnsupportedOperator, TflmCrashed):
        pass
    interpreter = Interpreter(graph)
    return f"tinyhil reference {__version__}", lambda arrays: interpreter(*arrays)


class TflmCrashed(Exception):
    """TFLM aborted or hung on a file that it should have refused."""


def tflm_apart(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """`tflm_run` in a process of its own; TflmCrashed if that does not survive."""
    process = _apart()
    try:
        return process.submit(tflm_run, model, list(inputs)).result(TRIAL_SECONDS)
    except (BrokenExecutor, TimeoutError) as error:
        _apart.cache_clear()
        process.shutdown(wait=False, cancel_futures=True)
        raise TflmCrashed(str(error)) from error


@cache
def _apart() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """The pool's process leaves Ctrl-C to its parent. It waits for work for ever; if its parent is killed,
    nobody else would end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(0)), daemon=True).start()
