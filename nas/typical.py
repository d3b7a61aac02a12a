"""A network with typical weights, for planning: what the engine does depends a little on the weights.

The engine chooses among kernels by what their requantisation costs, and that follows from the weights'
scales. So a plan for an architecture without weights needs some that behave as trained ones do behind
batch normalisation: they are drawn by the layer's own geometry, so equal layers are equal in every
network, and what is worked out for one serves all. Such a network computes nothing of sense.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np

from tinyhil.harness.model.graph import Graph, Tensor
from tinyhil.nas.arch import Arch, Kind, Layer
from tinyhil.nas.network import Weights, weight_shape
from tinyhil.nas.quantize import activation_quantization, assemble, quantize_weights
from tinyhil.nas.size import POINT

RELU6 = (0.0, 6.0)
LINEAR = (-6.1, 6.0)  # range of a layer without activation
_MEAN, _SQUARE = {True: 1.2, False: 0.0}, {True: 3.0, False: 3.0}  # of an activation behind ReLU6, or not


def skeleton(arch: Arch) -> Graph:
    """The int8 graph of `arch` with typical weights."""
    return assemble(
        arch,
        "skeleton",
        activation_quantization(-1.0, 1.0),
        lambda layer: activation_quantization(*(RELU6 if layer.relu6 else LINEAR)),
        lambda layer, scale: _constants(
            layer.kind, layer.kernel, layer.cin, layer.cout, layer.relu6, scale, scale == _RELU6_SCALE
        ),
    )


_RELU6_SCALE = activation_quantization(*RELU6).scale[0]


@lru_cache(maxsize=256)
def _constants(
    kind: Kind, kernel: int, cin: int, cout: int, relu6: bool, scale: float, positive: bool
) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer whose input has `scale`, and is `positive` where it is behind ReLU6."""
    layer = Layer("typical", kind, kernel, 1, cin, cout, POINT, POINT, relu6)
    key = f"{kind} {kernel} {cin} {cout} {relu6} {positive}"
    random = np.random.default_rng(zlib.crc32(key.encode()))
    gain = random.uniform(0.7, 1.6, cout)
    shift = random.normal(0.7 if relu6 else 0.0, 0.4, cout)
    raw = random.normal(0.0, 1.0, weight_shape(layer))
    axis = (1, 1, 1, -1) if kind is Kind.DEPTHWISE else (-1, 1, 1, 1)[: raw.ndim]
    weight = raw * (gain / np.sqrt(layer.weights / cout * _SQUARE[positive])).reshape(axis)
    sums = weight.sum(axis=(0, 1, 2) if kind is Kind.DEPTHWISE else tuple(range(1, raw.ndim)))
    return quantize_weights(layer, Weights(weight, shift - _MEAN[positive] * sums), scale)
