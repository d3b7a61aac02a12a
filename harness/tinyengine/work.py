"""What a kernel is asked to compute: geometry, weights and integer constants, nothing of files or C.

A `Work` is one layer after the graph passes, with the quantisation already turned into integers:

    out = clamp(zero_point + requantise(sum((x - x_zero_point) * w) + bias, multiplier, shift), low, high)

`requantise` is TFLM's: a saturating rounding doubling high multiply by `multiplier`, then a rounding
(half away from zero) right shift by `-shift`; `shift` > 0 shifts left first.
Activations are always HWC int8 in memory; other layouts are a kernel's private matter, in its scratch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tinyhil.harness.model.graph import Graph, Op

Int8Array: TypeAlias = npt.NDArray[np.int8]
Int32Array: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Map:
    """One int8 activation, height x width x channels, HWC."""

    height: int
    width: int
    channels: int
    zero_point: int

    @property
    def pixels(self) -> int:
        """Positions per channel."""
        return self.height * self.width

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.pixels * self.channels


@dataclass(frozen=True, eq=False)
class Requant:
    """Accumulator to int8: per output channel `multiplier` (Q31, 0 or 2^30..2^31-1) and `shift`
    (TFLite's sign: negative is to the right), int32 arrays of [channels]; then zero point and clamp."""

    multiplier: Int32Array
    shift: Int32Array
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class ConvWork:
    """A convolution; a fully-connected layer is one over a 1x1 map.

    `weights` int8 [out channels, kernel height, kernel width, in channels]; `bias` int32 [out channels],
    as in the file. `pads` is top, bottom, left, right; a padded position holds x.zero_point.
    `weight_bits` is 4 or 2 where all weights fit that many and flash may hold them so.
    """

    x: Map
    y: Map
    weights: Int8Array
    bias: Int32Array
    requant: Requant
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    weight_bits: int = 8

    @property
    def kernel(self) -> tuple[int, int]:
        """Kernel height and width."""
        return int(self.weights.shape[1]), int(self.weights.shape[2])

    @property
    def pointwise(self) -> bool:
        """A 1x1 convolution that reads every pixel once."""
        return self.kernel == (1, 1) and self.strides == (1, 1) and not any(self.pads)

    @property
    def folded_bias(self) -> npt.NDArray[np.int64]:
        """bias - x.zero_point * sum(w): with it the sum runs over raw x (int64 [out channels])."""
        sums = self.weights.reshape(self.weights.shape[0], -1).sum(axis=1, dtype=np.int64)
        folded: npt.NDArray[np.int64] = self.bias.astype(np.int64) - self.x.zero_point * sums
        return folded

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding counted as TFLite's field does."""
        return self.y.pixels * int(self.weights.size)


@dataclass(frozen=True, eq=False)
class DepthwiseWork:
    """A depthwise convolution: output channel c reads input channel c // multiplier.

    `weights` int8 [kernel height, kernel width, out channels]; the rest as in ConvWork.
    """

    x: Map
    y: Map
    weights: Int8Array
    bias: Int32Array
    requant: Requant
    multiplier: int = 1
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    weight_bits: int = 8

    @property
    def kernel(self) -> tuple[int, int]:
        """Kernel height and width."""
        return int(self.weights.shape[0]), int(self.weights.shape[1])

    @property
    def folded_bias(self) -> npt.NDArray[np.int64]:
        """bias - x.zero_point * sum(w) per output channel, int64."""
        sums = self.weights.reshape(-1, self.weights.shape[2]).sum(axis=0, dtype=np.int64)
        folded: npt.NDArray[np.int64] = self.bias.astype(np.int64) - self.x.zero_point * sums
        return folded

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding counted as TFLite's field does."""
        return self.y.pixels * int(self.weights.size)


@dataclass(frozen=True)
class AddWork:
    """Element-wise sum of two maps of one shape, TFLite's int8 arithmetic: each input is shifted left
    by `left_shift`, scaled by its (multiplier, shift), added, scaled by the output's, then clamped."""

    x: Map
    other: Map
    y: Map
    left_shift: int
    x_scale: tuple[int, int]
    other_scale: tuple[int, int]
    y_scale: tuple[int, int]
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class GraphWork:
    """Any other operator: the graph and the operator itself."""

    graph: Graph
    op: Op

    @property
    def elements(self) -> int:
        """Values of the first output."""
        return prod(self.graph.tensors[self.op.outputs[0]].shape)


Work: TypeAlias = ConvWork | DepthwiseWork | AddWork | GraphWork
