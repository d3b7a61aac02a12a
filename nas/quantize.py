"""Post-training quantisation: a float network and calibration images become an int8 graph.

The conventions are TFLite's: activations per tensor with a zero point, their range from the
calibration images and always containing 0; convolution weights per output channel, symmetric in
[-127, 127]; the classifier's weights per tensor; biases int32 at input scale x weight scale; ReLU6
fused into its layer. All scales are float32 values, as in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from tinyhil.harness.model.graph import (
    Activation,
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    DType,
    FullyConnected,
    Graph,
    Op,
    OpSpec,
    Quantization,
    Tensor,
)
from tinyhil.nas.arch import Arch, Kind, Layer, layers
from tinyhil.nas.network import Array, FloatNetwork, Weights, forward

Range = tuple[float, float]
INPUT_RANGE: Range = (-1.0, 1.0)


def calibrate(network: FloatNetwork, images: Array, batch: int = 8) -> dict[str, Range]:
    """Smallest and largest value of every layer's output over `images` [N,H,W,C], by layer name."""
    ranges: dict[str, Range] = {}

    def observe(layer: Layer, out: Array) -> None:
        low, high = ranges.get(layer.name, (0.0, 0.0))
        ranges[layer.name] = (min(low, float(out.min())), max(high, float(out.max())))

    for start in range(0, len(images), batch):
        forward(network, images[start : start + batch], observe)
    return ranges


def activation_quantization(low: float, high: float) -> Quantization:
    """int8 parameters that cover [low, high] and represent 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = _float32((high - low) / 255.0) or _float32(1.0 / 255.0)
    return Quantization((scale,), (int(np.clip(round(-128 - low / scale), -128, 127)),))


def quantize(
    network: FloatNetwork,
    ranges: Mapping[str, Range],
    name: str,
    input_range: Range = INPUT_RANGE,
) -> Graph:
    """The int8 graph of `network`, whose activations have the ranges of `calibrate`."""
    return assemble(
        network.arch,
        name,
        activation_quantization(*input_range),
        lambda layer: activation_quantization(*ranges[layer.name]),
        lambda layer, scale: quantize_weights(layer, network.weights[layer.name], scale),
    )


def assemble(
    arch: Arch,
    name: str,
    input_quant: Quantization,
    quant_of: Callable[[Layer], Quantization],
    constants_of: Callable[[Layer, float], tuple[Tensor, Tensor]],
) -> Graph:
    """The graph of `arch`; `constants_of` gives weight and bias for a layer and its input's scale."""
    builder = _Builder()
    shape = (1, arch.resolution.height, arch.resolution.width, arch.channels)
    at = builder.tensor(Tensor("input", shape, DType.INT8, input_quant))
    shortcut, block = at, -1
    for layer in layers(arch):
        if layer.block != block:
            block, shortcut = layer.block, at
        x = builder.tensors[at]
        flat = layer.kind is Kind.DENSE
        size = layer.size_out
        out_shape = (1, layer.cout) if flat else (1, size.height, size.width, layer.cout)
        # TFLite's average pool keeps the parameters of its input.
        quant = x.quant if layer.kind is Kind.POOL else quant_of(layer)
        out = Tensor(layer.name, out_shape, DType.INT8, quant)
        match layer.kind:
            case Kind.ADD:
                at = builder.op(Add(), (at, shortcut), out)
            case Kind.POOL:
                at = builder.op(AveragePool2D((layer.size_in.height, layer.size_in.width)), (at,), out)
            case _:
                constants = constants_of(layer, x.scale)
                at = builder.op(_spec(layer), (at, *map(builder.tensor, constants)), out)
    return Graph(name, tuple(builder.tensors), tuple(builder.ops), (0,), (at,))


def quantize_weights(layer: Layer, weights: Weights, input_scale: float) -> tuple[Tensor, Tensor]:
    """int8 weight and int32 bias of one layer, given the scale of its input."""
    axis = 3 if layer.kind is Kind.DEPTHWISE else 0
    rows = np.moveaxis(weights.weight, axis, 0).reshape(layer.cout, -1)
    largest = np.abs(rows).max(axis=1)
    if layer.kind is Kind.DENSE:
        largest = np.full_like(largest, largest.max())
    scales = np.where(largest > 0, largest, 1.0) / 127.0
    # A large bias on tiny weights must still fit int32 at input scale x weight scale.
    scales = np.maximum(scales, np.abs(weights.bias) / (input_scale * 2.0**30))
    if layer.kind is Kind.DENSE:
        scales = np.full_like(scales, scales.max())
    scales = scales.astype(np.float32).astype(np.float64)
    spread = scales.reshape([-1 if dim == axis else 1 for dim in range(weights.weight.ndim)])
    values = np.clip(np.rint(weights.weight / spread), -127, 127).astype(np.int8)
    bias_scales = (np.float32(input_scale) * scales.astype(np.float32)).astype(np.float64)
    bias = np.clip(np.rint(weights.bias / bias_scales), -(2**31) + 1, 2**31 - 1).astype(np.int32)
    if layer.kind is Kind.DENSE:
        scales, bias_scales = scales[:1], bias_scales[:1]
    return (
        _constant(f"{layer.name}.weight", values, DType.INT8, scales, axis),
        _constant(f"{layer.name}.bias", bias, DType.INT32, bias_scales, 0),
    )


def quantize_images(images: npt.NDArray[np.floating], graph: Graph) -> npt.NDArray[np.int8]:
    """`images` [N,H,W,C] as the int8 input of `graph`."""
    tensor = graph.tensors[graph.inputs[0]]
    steps = np.rint(np.asarray(images) / tensor.scale) + tensor.zero_point
    return np.asarray(np.clip(steps, -128, 127), np.int8)


def _spec(layer: Layer) -> OpSpec:
    activation = Activation.RELU6 if layer.relu6 else Activation.NONE
    strides = (layer.stride, layer.stride)
    match layer.kind:
        case Kind.DEPTHWISE:
            return DepthwiseConv2D(strides=strides, pads=layer.pads, activation=activation)
        case Kind.DENSE:
            return FullyConnected(activation=activation)
        case _:
            return Conv2D(strides=strides, pads=layer.pads, activation=activation)


def _constant(name: str, values: npt.NDArray[np.generic], dtype: DType, scales: Array, axis: int) -> Tensor:
    values.flags.writeable = False
    quant = Quantization(tuple(map(float, scales)), (0,) * len(scales), axis)
    return Tensor(name, values.shape, dtype, quant, values)


def _float32(value: float) -> float:
    return float(np.float32(value))


class _Builder:
    """Collects tensors and operators in order."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []

    def tensor(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def op(self, spec: OpSpec, inputs: tuple[int, ...], out: Tensor) -> int:
        at = self.tensor(out)
        self.ops.append(Op(spec, inputs, (at,)))
        return at
