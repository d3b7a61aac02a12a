"""A small network and ways to spoil it, for the tests of the reader."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tflite

from tinyhil.harness.model import Graph, read_tflite, write_tflite
from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import Activation, Conv2D, Tensor


def conv_graph() -> Graph:
    """One 3×3 convolution with a bias, SAME, stride 2."""
    b = Builder()
    x = b.input((1, 8, 8, 3), 0.5, -3)
    w = b.constant(np.ones((4, 3, 3, 3), np.int8), per_tensor(0.25))
    bias = b.constant(np.zeros(4, np.int32), per_tensor(0.125))
    spec = Conv2D(strides=(2, 2), pads=(0, 1, 0, 1), activation=Activation.RELU6)
    return b.graph("conv", [b.op(spec, [x, w, bias], per_tensor(0.1, -128))])


def with_tensor(graph: Graph, index: int, tensor: Tensor) -> Graph:
    tensors = list(graph.tensors)
    tensors[index] = tensor
    return replace(graph, tensors=tuple(tensors))


def reading(graph: Graph) -> Graph:
    return read_tflite(write_tflite(graph), graph.name)


def with_operator(data: bytes, code: int) -> bytes:
    """The file with its first operator code replaced."""
    octets = bytearray(data)
    table = tflite.Model.GetRootAs(octets, 0).OperatorCodes(0)._tab
    for field, width in ((4, 1), (10, 4)):  # deprecated_builtin_code, builtin_code
        if at := table.Offset(field):
            octets[table.Pos + at : table.Pos + at + width] = code.to_bytes(width, "little")
    return bytes(octets)
