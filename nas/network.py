"""Float networks in NumPy: an architecture with its weights, run layer by layer.

Batch normalisation is already folded: every layer has a weight and a bias. Maps are [N,H,W,C] in
float64, so that what is derived from them (ranges, scales) does not depend on the machine's BLAS.
Weights have TFLite's layouts: convolutions [Co,K,K,Ci], depthwise [1,K,K,C], dense [M,K].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyhil.nas.arch import Arch, Kind, Layer, layers

Array = npt.NDArray[np.float64]
Observer = Callable[[Layer, Array], None]


@dataclass(frozen=True, eq=False)
class Weights:
    """Weight and bias [Co] of one layer, batch normalisation folded in."""

    weight: Array
    bias: Array


@dataclass(frozen=True, eq=False)
class FloatNetwork:
    """An architecture and the weights of each of its layers, by the layer's name."""

    arch: Arch
    weights: Mapping[str, Weights]


def forward(network: FloatNetwork, images: Array, observe: Observer | None = None) -> Array:
    """Logits [N,classes] of `images` [N,H,W,C]; `observe` sees every layer's output."""
    return _run(network.arch, images, lambda layer, x: network.weights[layer.name], observe)


def seeded(arch: Arch, images: Array, seed: int) -> FloatNetwork:
    """Random weights (He), normalised layer by layer on `images` as batch normalisation would.

    Each channel's output before the activation gets a drawn mean and spread, so that ReLU6 lets
    about two thirds through and saturates rarely: the int8 network is lively everywhere.
    """
    random = np.random.default_rng(seed)
    made: dict[str, Weights] = {}

    def make(layer: Layer, x: Array) -> Weights:
        shape = weight_shape(layer)
        fan_in = layer.weights // layer.cout
        raw = random.normal(0.0, np.sqrt(2.0 / fan_in), shape)
        if layer.kind is Kind.DENSE:
            made[layer.name] = Weights(raw, random.normal(0.0, 0.2, layer.cout))
            return made[layer.name]
        out = apply(layer, x, Weights(raw, np.zeros(layer.cout)), clip=False)
        mean, spread = out.mean((0, 1, 2)), out.std((0, 1, 2)) + 1e-3
        gain = random.uniform(0.7, 1.6, layer.cout)
        shift = random.normal(0.7 if layer.relu6 else 0.0, 0.4, layer.cout)
        factor = gain / spread
        axis = (1, 1, 1, -1) if layer.kind is Kind.DEPTHWISE else (-1, 1, 1, 1)
        made[layer.name] = Weights(raw * factor.reshape(axis), shift - mean * factor)
        return made[layer.name]

    _run(arch, images, make, None)
    return FloatNetwork(arch, made)


def weight_shape(layer: Layer) -> tuple[int, ...]:
    """Shape of a layer's weight in TFLite's layout."""
    match layer.kind:
        case Kind.DEPTHWISE:
            return (1, layer.kernel, layer.kernel, layer.cout)
        case Kind.DENSE:
            return (layer.cout, layer.cin)
        case _:
            return (layer.cout, layer.kernel, layer.kernel, layer.cin)


def apply(layer: Layer, x: Array, weights: Weights, *, clip: bool = True) -> Array:
    """One layer with weights; `clip=False` leaves ReLU6 out."""
    match layer.kind:
        case Kind.DENSE:
            return x.reshape(len(x), -1) @ weights.weight.T + weights.bias
        case Kind.POINTWISE:
            out = x @ weights.weight[:, 0, 0, :].T
        case _:
            out = _spatial(layer, x, weights.weight)
    out += weights.bias
    return np.clip(out, 0.0, 6.0, out=out) if clip and layer.relu6 else out


def _spatial(layer: Layer, x: Array, weight: Array) -> Array:
    """Convolution with SAME padding: the sum of the kernel's shifted products."""
    top, bottom, left, right = layer.pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    height, width, stride = layer.size_out.height, layer.size_out.width, layer.stride
    out = np.zeros((len(x), height, width, layer.cout))
    down, across = (height - 1) * stride + 1, (width - 1) * stride + 1
    for row in range(layer.kernel):
        for column in range(layer.kernel):
            seen = padded[:, row : row + down : stride, column : column + across : stride]
            if layer.kind is Kind.DEPTHWISE:
                out += seen * weight[0, row, column]
            else:
                out += seen @ weight[:, row, column, :].T
    return out


def _run(
    arch: Arch, images: Array, weights_of: Callable[[Layer, Array], Weights], observe: Observer | None
) -> Array:
    x = np.asarray(images, np.float64)
    shortcut = x
    block = -1
    for layer in layers(arch):
        if layer.block != block:
            block, shortcut = layer.block, x
        match layer.kind:
            case Kind.ADD:
                x = x + shortcut
            case Kind.POOL:
                x = x.mean((1, 2), keepdims=True)
            case _:
                x = apply(layer, x, weights_of(layer, x))
        if observe is not None:
            observe(layer, x)
    return x
