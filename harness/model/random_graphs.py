"""Small random int8 networks, the same for the same seed: food for tests that compare engines.

Shapes are odd on purpose, scales such that outputs use their range and sometimes saturate.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinyhil.harness.model import random_dice as dice
from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import (
    Activation,
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    Dequantize,
    DType,
    FullyConnected,
    Graph,
    HardSwish,
    LeakyRelu,
    Logistic,
    Maximum,
    MaxPool2D,
    Mean,
    Minimum,
    Mul,
    Pad,
    Prelu,
    Quantize,
    Relu,
    Reshape,
    ResizeBilinear,
    ResizeNearestNeighbor,
    Softmax,
    StridedSlice,
    Sub,
    Tanh,
    Transpose,
)  # fmt: skip
from tinyhil.harness.model.random_dice import Random

Step: TypeAlias = Callable[[Builder, Random, int], int]


def random_layer(kind: str, seed: int) -> Graph:
    """A network of one operator, `kind` being one of LAYERS."""
    random = np.random.default_rng([seed, *kind.encode()])
    b = Builder()
    x = dice.image(b, random)
    return b.graph(f"{kind.lower()}_{seed}", [LAYERS[kind](b, random, x)])


def random_network(seed: int, layers: int = 6) -> Graph:
    """A network of `layers` random operators and mostly a classifier behind them; some have float32
    inputs and outputs."""
    random = np.random.default_rng(seed)
    b = Builder()
    float_io = random.random() < 0.2
    if float_io:
        x = b.op(
            Quantize(), [b.input(dice.image_shape(random), dtype=DType.FLOAT32)], dice.random_quant(random)
        )
    else:
        x = dice.image(b, random)
    for _ in range(layers):
        x = LAYERS[dice.pick(random, CHAIN)](b, random, x)
    if random.random() < 0.7:
        x = _mean(b, random, x) if random.random() < 0.5 else x
        x = _fully_connected(b, random, x)
        x = _softmax(b, random, x)
    if float_io:
        x = b.op(Dequantize(), [x], None, dtype=DType.FLOAT32)
    return b.graph(f"network_{seed}", [x])


def random_inputs(graph: Graph, seed: int = 0) -> list[npt.NDArray[Any]]:
    """One input of each kind and shape that the network takes; int8 over the full range."""
    random = np.random.default_rng(seed)
    arrays: list[npt.NDArray[Any]] = []
    for i in graph.inputs:
        t = graph.tensors[i]
        if t.dtype is DType.FLOAT32:
            arrays.append(random.normal(0.0, 2.0, t.shape).astype(np.float32))
        elif t.dtype is DType.UINT8:
            arrays.append(random.integers(0, 256, t.shape).astype(np.uint8))
        else:
            arrays.append(random.integers(-128, 128, t.shape).astype(np.int8))
    return arrays


def _conv(b: Builder, random: Random, x: int) -> int:
    kernel, strides = dice.window(random)
    dilations = dice.dilations(random, strides)
    ci, co = b.tensors[x].shape[3], int(random.integers(1, 20))
    inputs, quant = dice.weights(b, random, x, (co, *kernel, ci), 0, prod(kernel) * ci)
    pads = dice.pads(b, random, x, kernel, strides, dilations)
    return b.op(Conv2D(strides, dilations, pads, dice.activation(random)), inputs, quant)


def _depthwise(b: Builder, random: Random, x: int) -> int:
    kernel, strides = dice.window(random, 7)
    dilations = dice.dilations(random, strides)
    multiplier = dice.pick(random, (1, 1, 1, 2, 3, 8)) if b.tensors[x].shape[3] < 10 else 1
    shape = (1, *kernel, b.tensors[x].shape[3] * multiplier)
    inputs, quant = dice.weights(b, random, x, shape, 3, prod(kernel))
    pads = dice.pads(b, random, x, kernel, strides, dilations)
    return b.op(DepthwiseConv2D(multiplier, strides, dilations, pads, dice.activation(random)), inputs, quant)


def _fully_connected(b: Builder, random: Random, x: int) -> int:
    shape = b.tensors[x].shape
    k = prod(shape) if random.random() < 0.7 or len(shape) < 2 else shape[-1]
    m = int(random.integers(1, 20))
    inputs, quant = dice.weights(b, random, x, (m, k), 0, k)
    return b.op(FullyConnected(dice.activation(random)), inputs, quant)


def _other(b: Builder, random: Random, x: int) -> int:
    """A second operand for x: x itself, a constant of the same shape, or one that is broadcast."""
    shape = b.tensors[x].shape
    choice = random.random()
    if choice < 0.3:
        return x
    if choice > 0.6:
        shape = (1,) * (len(shape) - 1) + shape[-1:]
    return b.constant(random.integers(-128, 128, shape).astype(np.int8), dice.random_quant(random))


def _add(b: Builder, random: Random, x: int) -> int:
    inputs = [x, _other(b, random, x)]
    if random.random() < 0.5:
        inputs.reverse()
    spread = 73 * sum(dice.scale_of(b, i) for i in inputs)
    return b.op(Add(dice.activation(random)), inputs, dice.output(random, spread))


def _sub(b: Builder, random: Random, x: int) -> int:
    inputs = [x, _other(b, random, x)]
    return b.op(
        Sub(dice.activation(random)),
        inputs,
        dice.output(random, 73 * sum(dice.scale_of(b, i) for i in inputs)),
    )


def _extremum(b: Builder, random: Random, x: int) -> int:
    tensor = b.tensors[x]
    shape = dice.pick(random, (tensor.shape, tensor.shape[-1:], (1,)))
    other = b.constant(random.integers(-128, 128, shape).astype(np.int8), tensor.quant)
    return b.op(dice.pick(random, (Maximum(), Minimum())), [x, other], tensor.quant)


def _prelu(b: Builder, random: Random, x: int) -> int:
    slopes = random.integers(-128, 128, b.tensors[x].shape[-1:]).astype(np.int8)
    slope = b.constant(slopes, per_tensor(0.004, int(random.integers(-128, 128))))
    return b.op(Prelu(), [x, slope], dice.output(random, 60 * dice.scale_of(b, x)))


def _octets(b: Builder, random: Random, x: int) -> int:
    """Through uint8 and back: what converters put at the ports."""
    tensor = b.tensors[x]
    middle = per_tensor(tensor.scale, tensor.zero_point + 128)
    if random.random() < 0.5:
        middle = per_tensor(dice.output(random, 60 * tensor.scale).scale[0], int(random.integers(0, 256)))
    y = b.op(Quantize(), [x], middle, dtype=DType.UINT8)
    return b.op(Quantize(), [y], dice.output(random, 60 * tensor.scale))


def _mul(b: Builder, random: Random, x: int) -> int:
    inputs = [x, _other(b, random, x)]
    spread = 73 * 73 * dice.scale_of(b, inputs[0]) * dice.scale_of(b, inputs[1])
    return b.op(Mul(dice.activation(random)), inputs, dice.output(random, spread))


def _pool(cls: type[AveragePool2D] | type[MaxPool2D]) -> Step:
    def step(b: Builder, random: Random, x: int) -> int:
        kernel, strides = dice.window(random)
        if random.random() < 0.2:
            kernel = b.tensors[x].shape[1], b.tensors[x].shape[2]
        pads = dice.pads(b, random, x, kernel, strides)
        return b.op(cls(kernel, strides, pads, dice.activation(random)), [x], b.tensors[x].quant)

    return step


def _mean(b: Builder, random: Random, x: int) -> int:
    axes = dice.pick(random, ((1, 2), (1, 2), (1,), (2,), (3,))) if len(b.tensors[x].shape) == 4 else (1,)
    return b.op(Mean(axes, bool(random.integers(2))), [x], dice.output(random, 40 * dice.scale_of(b, x)))


def _pad(b: Builder, random: Random, x: int) -> int:
    h, w, c = (tuple(int(n) for n in random.integers(0, 3, 2)) for _ in range(3))
    channels = c if random.random() < 0.2 else (0, 0)
    value = int(random.integers(-128, 128)) if random.random() < 0.2 else None
    return b.op(Pad(((0, 0), h, w, channels), value), [x], b.tensors[x].quant)  # type: ignore[arg-type]


def _reshape(b: Builder, random: Random, x: int) -> int:
    _, h, w, c = b.tensors[x].shape
    shape = dice.pick(random, ((1, w, h, c), (1, h * w, 1, c), (1, 1, c, h * w)))
    return b.op(Reshape(), [x], b.tensors[x].quant, shape)


def _softmax(b: Builder, random: Random, x: int) -> int:
    return b.op(Softmax(float(dice.pick(random, (1.0, 1.0, 0.5)))), [x], per_tensor(1 / 256, -128))


def _logistic(b: Builder, random: Random, x: int) -> int:
    return b.op(Logistic(), [x], per_tensor(1 / 256, -128))


def _tanh(b: Builder, random: Random, x: int) -> int:
    return b.op(Tanh(), [x], per_tensor(1 / 128, 0))


def _hard_swish(b: Builder, random: Random, x: int) -> int:
    return b.op(HardSwish(), [x], dice.output(random, 60 * dice.scale_of(b, x)))


def _leaky_relu(b: Builder, random: Random, x: int) -> int:
    alpha = float(np.float32(dice.pick(random, (0.01, 0.1, 0.3, 1.5))))
    return b.op(LeakyRelu(alpha), [x], dice.output(random, 60 * dice.scale_of(b, x)))


def _relu(b: Builder, random: Random, x: int) -> int:
    if random.random() < 0.5:
        return b.op(Relu(Activation.RELU6), [x], b.tensors[x].quant)
    return b.op(Relu(Activation.RELU), [x], dice.output(random, 50 * dice.scale_of(b, x)))


def _concatenation(b: Builder, random: Random, x: int) -> int:
    tensor = b.tensors[x]
    axis = dice.pick(random, (1, 2, 3, 3))
    shape = (*tensor.shape[:axis], int(random.integers(1, 5)), *tensor.shape[axis + 1 :])
    inputs = [x, x]
    if random.random() < 0.8:
        other = b.constant(random.integers(-128, 128, shape).astype(np.int8), tensor.quant)
        inputs = dice.pick(random, ([x, other], [other, x], [x, other, x]))
    return b.op(Concatenation(axis), inputs, tensor.quant)


def _resize(cls: type[ResizeNearestNeighbor] | type[ResizeBilinear]) -> Step:
    def step(b: Builder, random: Random, x: int) -> int:
        _, h, w, c = b.tensors[x].shape
        rows, columns = dice.pick(random, ((2 * h, 2 * w), tuple(int(n) for n in random.integers(1, 20, 2))))
        corners, centers = dice.pick(random, ((False, False), (True, False), (False, True)))
        return b.op(cls(corners, centers), [x], b.tensors[x].quant, (1, rows, columns, c))

    return step


def _transpose(b: Builder, random: Random, x: int) -> int:
    perm = (0, *(int(i) for i in 1 + random.permutation(3)))
    return b.op(Transpose(perm), [x], b.tensors[x].quant)


def _strided_slice(b: Builder, random: Random, x: int) -> int:
    begin, end, strides = [0], [1], [1]
    for n in b.tensors[x].shape[1:]:
        first, last = sorted(int(i) for i in random.integers(0, n, 2))
        step = int(random.integers(1, 4))
        backward = random.random() < 0.2
        begin.append(last if backward else first)
        end.append(first - 1 if backward else last + 1)
        strides.append(-step if backward else step)
    return b.op(StridedSlice(tuple(begin), tuple(end), tuple(strides)), [x], b.tensors[x].quant)


def _quantize(b: Builder, random: Random, x: int) -> int:
    return b.op(Quantize(), [x], dice.output(random, 73 * dice.scale_of(b, x)))


LAYERS: dict[str, Step] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "FullyConnected": _fully_connected,
    "Add": _add,
    "Mul": _mul,
    "AveragePool2D": _pool(AveragePool2D),
    "MaxPool2D": _pool(MaxPool2D),
    "Mean": _mean,
    "Pad": _pad,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "Logistic": _logistic,
    "Relu": _relu,
    "Concatenation": _concatenation,
    "ResizeNearestNeighbor": _resize(ResizeNearestNeighbor),
    "Transpose": _transpose,
    "StridedSlice": _strided_slice,
    "Quantize": _quantize,
    "Sub": _sub,
    "Extremum": _extremum,
    "Tanh": _tanh,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "Prelu": _prelu,
    "Octets": _octets,
    "ResizeBilinear": _resize(ResizeBilinear),
}

# The operators that keep four dimensions; convolutions come more often. Those behind "Quantize" came later:
# a seed gives the network that it always gave.
CHAIN = [k for k in list(LAYERS)[:18] if k not in ("FullyConnected", "Mean", "Softmax")]
CHAIN += ["Conv2D", "DepthwiseConv2D"] * 3
