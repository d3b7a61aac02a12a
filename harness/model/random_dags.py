"""Random networks with branches: several inputs and outputs, joins, gates, shared weights, large windows.

What random_graphs.py leaves out because it builds chains. The same network for the same seed.
"""

from __future__ import annotations

from math import prod

import numpy as np

from tinyhil.harness.model import random_dice as dice
from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import (
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    Graph,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Pads,
    Reshape,
    ResizeNearestNeighbor,
    Softmax,
)  # fmt: skip
from tinyhil.harness.model.random_dice import Random
from tinyhil.harness.model.random_graphs import CHAIN, LAYERS
from tinyhil.harness.model.shapes import same_pads

_MOST = 4000  # values of a tensor that grows no further


def random_dag(seed: int, layers: int = 8) -> Graph:
    """One to three inputs, `layers` steps that each read any earlier tensor, one to three outputs. An output
    may be read by later steps, and some results are read by nobody."""
    random = np.random.default_rng([seed, 2])
    b = Builder()
    live = [dice.image(b, random) for _ in range(int(random.integers(1, 4)))]
    makers: list[int] = []
    for _ in range(layers):
        recent = live[-3:] if random.random() < 0.7 else live
        x = dice.pick(random, [t for t in recent if len(b.tensors[t].shape) == 4])
        step = dice.pick(random, _STEPS)
        live.append(step(b, random, x, live))
        makers.append(live[-1])
    chosen = {makers[-1], *(dice.pick(random, makers) for _ in range(int(random.integers(0, 3))))}
    return b.graph(f"dag_{seed}", sorted(chosen))


def _chain(b: Builder, random: Random, x: int, live: list[int]) -> int:
    """Any operator that keeps four dimensions."""
    return LAYERS[dice.pick(random, CHAIN)](b, random, x)


def _partner(b: Builder, random: Random, x: int, live: list[int]) -> int:
    """Another tensor of the same shape and other scales, made by a convolution if there is none."""
    shape = b.tensors[x].shape
    same = [t for t in live if t != x and b.tensors[t].shape == shape]
    return dice.pick(random, same) if same else _pointwise(b, random, x, shape[3])


def _pointwise(b: Builder, random: Random, x: int, channels: int) -> int:
    depth = b.tensors[x].shape[3]
    inputs, quant = dice.weights(b, random, x, (channels, 1, 1, depth), 0, depth)
    return b.op(Conv2D(activation=dice.activation(random)), inputs, quant)


def _residual(b: Builder, random: Random, x: int, live: list[int]) -> int:
    """A sum or product of two activations with scales of their own."""
    inputs = [x, _partner(b, random, x, live)]
    if random.random() < 0.5:
        inputs.reverse()
    scales = [b.tensors[i].scale for i in inputs]
    if random.random() < 0.3:
        return b.op(Mul(dice.activation(random)), inputs, dice.output(random, 73 * 73 * prod(scales)))
    return b.op(Add(dice.activation(random)), inputs, dice.output(random, 73 * sum(scales)))


def _join(b: Builder, random: Random, x: int, live: list[int]) -> int:
    """A concatenation of two to three tensors along any axis, the others resized if need be."""
    tensor = b.tensors[x]
    if tensor.elements > _MOST:
        return _window(b, random, x, live)
    parts = [x]
    for other in live[-4:]:
        t = b.tensors[other]
        if len(t.shape) != 4 or other == x or t.elements > _MOST or len(parts) == 3:
            continue
        t = b.tensors[other]
        same = other
        if t.shape[1:3] != tensor.shape[1:3]:
            shape = (1, *tensor.shape[1:3], t.shape[3])
            same = b.op(ResizeNearestNeighbor(), [other], t.quant, shape)
        if b.tensors[same].quant != tensor.quant:  # joined values share their scale
            same = _rescaled(b, random, same, x)
        parts.append(same)
    axis = 3 if len({b.tensors[p].shape[3] for p in parts}) > 1 else dice.pick(random, (1, 2, 3))
    return b.op(Concatenation(axis), parts, tensor.quant)


def _rescaled(b: Builder, random: Random, x: int, like: int) -> int:
    depth = b.tensors[x].shape[3]
    inputs, _ = dice.weights(b, random, x, (depth, 1, 1, depth), 0, depth)
    return b.op(Conv2D(), inputs, b.tensors[like].quant)


def _window(b: Builder, random: Random, x: int, live: list[int]) -> int:
    """A convolution or pool with a large, long or dilated window and strides up to four."""
    _, h, w, c = b.tensors[x].shape
    kernel = dice.pick(random, ((11, 11), (9, 9), (7, 7), (1, 7), (5, 1), (9, 1), (1, 3), (2, 2), (4, 3)))
    strides = dice.pick(random, ((1, 1), (1, 1), (3, 3), (4, 4), (4, 1), (1, 3)))
    dilations = dice.pick(random, ((1, 1), (2, 2), (3, 1))) if strides == (1, 1) else (1, 1)
    kind = random.random()
    if kind > 0.8:
        pool = dice.pick(random, (AveragePool2D, MaxPool2D))
        pads = dice.pads(b, random, x, kernel, strides)
        return b.op(pool(kernel, strides, pads, dice.activation(random)), [x], b.tensors[x].quant)
    pads = _uneven(random, (h, w), kernel, strides, dilations)
    activation = dice.activation(random)
    if kind > 0.4:
        multiplier = dice.pick(random, (1, 1, 2, 3)) if c < 8 else 1
        inputs, quant = dice.weights(b, random, x, (1, *kernel, c * multiplier), 3, prod(kernel))
        return b.op(DepthwiseConv2D(multiplier, strides, dilations, pads, activation), inputs, quant)
    out = int(random.integers(1, 10))
    inputs, quant = dice.weights(b, random, x, (out, *kernel, c), 0, prod(kernel) * c)
    return b.op(Conv2D(strides, dilations, pads, activation), inputs, quant)


def _uneven(random: Random, size: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int],
            dilations: tuple[int, int]) -> Pads:  # fmt: skip
    """SAME, none where the window fits, or a padding of another width on each side."""
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    if random.random() < 0.6:
        return same_pads(size, kernel, strides, dilations)
    sides: list[int] = []
    for n, r in zip(size, reach, strict=True):
        before = int(random.integers(0, r + 1))
        sides += [before, max(int(random.integers(0, r + 1)), r + 1 - n - before)]
    return sides[0], sides[1], sides[2], sides[3]


def _gate(b: Builder, random: Random, x: int, live: list[int]) -> int:
    """Squeeze and excite: channels scaled by what their means say."""
    channels = b.tensors[x].shape[3]
    mean = b.op(Mean((1, 2), keep_dims=True), [x], dice.output(random, 40 * b.tensors[x].scale))
    wide = _pointwise(b, random, _pointwise(b, random, mean, max(1, channels // 4)), channels)
    gate = b.op(Logistic(), [wide], per_tensor(1 / 256, -128))
    return b.op(Mul(), [x, gate], dice.output(random, 40 * b.tensors[x].scale))


def _shared(b: Builder, random: Random, x: int, live: list[int]) -> int:
    """The same weights on two tensors: a convolution, and once more on its own result."""
    channels = b.tensors[x].shape[3]
    inputs, quant = dice.weights(b, random, x, (channels, 1, 1, channels), 0, channels)
    inputs[2] = -1  # a bias has the scale of one input
    first = b.op(Conv2D(), inputs, quant)
    return b.op(Conv2D(), [first, *inputs[1:]], quant)


def _reshapes(b: Builder, random: Random, x: int, live: list[int]) -> int:
    """Shapes that change twice with a softmax along what becomes the last axis."""
    _, h, w, c = b.tensors[x].shape
    quant = b.tensors[x].quant
    flat = b.op(Reshape(), [x], quant, (1, h * w * c))
    once = b.op(Reshape(), [flat], quant, dice.pick(random, ((1, c, h, w), (1, 1, w * c, h), (1, h, c, w))))
    if random.random() < 0.5:
        return once
    return b.op(Softmax(), [once], per_tensor(1 / 256, -128))


_STEPS = (
    _chain,
    _chain,
    _chain,
    _residual,
    _residual,
    _join,
    _window,
    _window,
    _window,
    _gate,
    _shared,
    _reshapes,
)
