"""Small networks made by hand or by hypothesis, as graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from tinyhil.harness.model.graph import (
    Activation,
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    DType,
    FullyConnected,
    Graph,
    MaxPool2D,
    Mean,
    Op,
    OpSpec,
    Pad,
    Quantization,
    Relu,
    Reshape,
    Softmax,
    Tensor,
)


class Builder:
    """Adds operators one after the other; every activation gets a plausible scale."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0, zero_point: int = -3, scale: float = 0.05):
        self.rng = np.random.default_rng(seed)
        self.tensors: list[Tensor] = [
            Tensor("input", shape, DType.INT8, Quantization((scale,), (zero_point,)))
        ]
        self.ops: list[Op] = []
        self.inputs = [0]
        self.last = 0

    def shape(self, tensor: int | None = None) -> tuple[int, ...]:
        return self.tensors[self.last if tensor is None else tensor].shape

    def input(self, shape: tuple[int, ...], scale: float = 0.05, zero_point: int = -3) -> int:
        """Another network input, quantised like the first unless said otherwise."""
        self.inputs.append(len(self.tensors))
        quant = Quantization((scale,), (zero_point,))
        self.tensors.append(Tensor(f"input{len(self.inputs)}", shape, DType.INT8, quant))
        return self.inputs[-1]

    def constant(
        self, data: npt.NDArray[Any], dtype: DType, quant: Quantization | None = None, name: str = "c"
    ) -> int:
        data.setflags(write=False)
        self.tensors.append(Tensor(name, data.shape, dtype, quant, data))
        return len(self.tensors) - 1

    def op(
        self,
        spec: OpSpec,
        inputs: tuple[int, ...],
        shape: tuple[int, ...],
        scale: float | None = None,
        zero_point: int | None = None,
    ) -> int:
        x = self.tensors[inputs[0]]
        assert x.quant is not None
        quant = Quantization(
            (x.quant.scale[0] if scale is None else scale,),
            (x.quant.zero_point[0] if zero_point is None else zero_point,),
        )
        self.tensors.append(Tensor(f"t{len(self.tensors)}", shape, DType.INT8, quant))
        self.last = len(self.tensors) - 1
        self.ops.append(Op(spec, inputs, (self.last,)))
        return self.last

    def _filter(
        self, shape: tuple[int, ...], axis: int, dead: float
    ) -> tuple[npt.NDArray[np.int8], Quantization]:
        w = self.rng.integers(-127, 128, shape).astype(np.int8)
        channels = shape[axis]
        off = self.rng.random(channels) < dead
        np.moveaxis(w, axis, 0)[off] = 0
        scales = tuple(float(s) for s in self.rng.uniform(0.002, 0.02, channels))
        return w, Quantization(scales, (0,) * channels, axis)

    def conv(
        self, channels: int, kernel: tuple[int, int] = (1, 1), strides: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0), activation: Activation = Activation.RELU6,
        dead: float = 0.0, zero_point: int = -128, bias: bool = True,
    ) -> int:  # fmt: skip
        _, h, w, c = self.shape()
        weights, quant = self._filter((channels, *kernel, c), 0, dead)
        inputs = [self.last, self.constant(weights, DType.INT8, quant)]
        if bias:
            inputs.append(
                self.constant(self.rng.integers(-2000, 2000, channels).astype(np.int32), DType.INT32)
            )
        oh = (h + pads[0] + pads[1] - kernel[0]) // strides[0] + 1
        ow = (w + pads[2] + pads[3] - kernel[1]) // strides[1] + 1
        scale = 0.01 * float(np.sqrt(c * kernel[0] * kernel[1]))
        spec = Conv2D(strides, (1, 1), pads, activation)
        return self.op(spec, tuple(inputs), (1, oh, ow, channels), scale, zero_point)

    def depthwise(
        self, kernel: tuple[int, int] = (3, 3), strides: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (1, 1, 1, 1), multiplier: int = 1,
        activation: Activation = Activation.RELU6, dead: float = 0.0, zero_point: int = -128,
    ) -> int:  # fmt: skip
        _, h, w, c = self.shape()
        weights, quant = self._filter((1, *kernel, c * multiplier), 3, dead)
        bias = self.constant(self.rng.integers(-2000, 2000, c * multiplier).astype(np.int32), DType.INT32)
        oh = (h + pads[0] + pads[1] - kernel[0]) // strides[0] + 1
        ow = (w + pads[2] + pads[3] - kernel[1]) // strides[1] + 1
        spec = DepthwiseConv2D(multiplier, strides, (1, 1), pads, activation)
        inputs = (self.last, self.constant(weights, DType.INT8, quant), bias)
        return self.op(spec, inputs, (1, oh, ow, c * multiplier), 0.05, zero_point)

    def dense(self, channels: int) -> int:
        depth = int(np.prod(self.shape()[1:]))
        weights = self.rng.integers(-127, 128, (channels, depth)).astype(np.int8)
        w = self.constant(weights, DType.INT8, Quantization((0.004,), (0,)))
        bias = self.constant(self.rng.integers(-2000, 2000, channels).astype(np.int32), DType.INT32)
        return self.op(FullyConnected(), (self.last, w, bias), (1, channels), 0.1, 5)

    def pad(self, top: int, bottom: int, left: int, right: int) -> int:
        _, h, w, c = self.shape()
        spec = Pad(((0, 0), (top, bottom), (left, right), (0, 0)))
        return self.op(spec, (self.last,), (1, h + top + bottom, w + left + right, c))

    def relu(self, activation: Activation = Activation.RELU) -> int:
        return self.op(Relu(activation), (self.last,), self.shape())

    def add(self, other: int) -> int:
        return self.op(Add(), (self.last, other), self.shape(), 0.07, 4)

    def pool(self, average: bool, size: int = 2, stride: int = 2) -> int:
        _, h, w, c = self.shape()
        kind = AveragePool2D if average else MaxPool2D
        shape = (1, (h - size) // stride + 1, (w - size) // stride + 1, c)
        return self.op(kind((size, size), (stride, stride)), (self.last,), shape)

    def mean(self) -> int:
        shape = self.shape()
        return self.op(Mean((1, 2)), (self.last,), (1, shape[3]), 0.04, 2)

    def reshape(self, *shape: int) -> int:
        return self.op(Reshape(), (self.last,), shape)

    def softmax(self) -> int:
        return self.op(Softmax(), (self.last,), self.shape(), 1 / 256, -128)

    def graph(self, *outputs: int) -> Graph:
        return Graph(
            "hand_made", tuple(self.tensors), tuple(self.ops), tuple(self.inputs), outputs or (self.last,)
        )


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


@st.composite
def networks(draw: st.DrawFn, layers: int = 6) -> Graph:
    """Chains of convolutions, depthwise convolutions, pools and residual sums with dead filters."""
    side = draw(st.sampled_from([3, 5, 6, 8, 9, 12]))
    width = draw(st.sampled_from([side, side + 1]))
    b = Builder(
        (1, side, width, draw(st.sampled_from([1, 3, 4, 8]))),
        draw(st.integers(0, 1 << 20)),
        draw(st.sampled_from([-128, -3, 0, 17, 127])),
    )
    zero_points = st.sampled_from([-128, -128, -5, 0, 60])
    channels = st.sampled_from([1, 2, 3, 4, 7, 8, 12, 16])
    dead = draw(st.sampled_from([0.0, 0.4, 0.8]))
    activations = st.sampled_from([Activation.NONE, Activation.RELU, Activation.RELU6])
    for _ in range(draw(st.integers(1, layers))):
        _, h, w, c = b.shape()
        kind = draw(st.sampled_from(["pw", "pw", "dw", "dw", "conv", "block", "pool", "relu", "pad"]))
        k = draw(st.sampled_from([3, 5, 7]))
        s = draw(st.sampled_from([1, 1, 2]))
        pads = (*_same(h, k, s), *_same(w, k, s))
        if kind == "pw":
            b.conv(draw(channels), activation=draw(activations), dead=dead, zero_point=draw(zero_points))
        elif kind == "dw":
            m = draw(st.sampled_from([1, 1, 1, 2]))
            b.depthwise((k, k), (s, s), pads, m, draw(activations), dead, draw(zero_points))
        elif kind == "conv" and c <= 8:
            b.conv(draw(channels), (k, k), (s, s), pads, draw(activations), dead, draw(zero_points))
        elif kind == "block":
            start, pads1 = b.last, (*_same(h, k, 1), *_same(w, k, 1))
            b.conv(draw(channels), dead=dead)
            b.depthwise((k, k), (1, 1), pads1, dead=dead)
            b.conv(c, activation=Activation.NONE, zero_point=draw(zero_points))
            b.add(start)
        elif kind == "pool" and min(h, w) >= 2:
            b.pool(draw(st.booleans()))
        elif kind == "relu":
            b.relu(draw(st.sampled_from([Activation.RELU, Activation.RELU6])))
        elif kind == "pad":
            b.pad(1, 0, 2, 1)
            b.conv(draw(channels), (2, 2), dead=dead)
    if draw(st.booleans()):
        b.mean()
        b.dense(draw(st.integers(1, 5)))
        b.softmax()
    return b.graph()
