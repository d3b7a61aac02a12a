"""Operators of a .tflite file that are several of the graph: split and stacked tensors, transposed
convolutions, depth to space and back, maxima over whole maps.

Each becomes operators that move bytes, and at most one that computes, with the same integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import tflite

from tinyhil.errors import MalformedModel, UnsupportedOperator
from tinyhil.harness.model.graph import (
    Concatenation,
    Conv2D,
    MaxPool2D,
    Op,
    OpSpec,
    Quantization,
    Reshape,
    StridedSlice,
    Tensor,
    Transpose,
)  # fmt: skip
from tinyhil.harness.model.shapes import Shape, output_shape
from tinyhil.harness.model.tflite_context import Context, image_size, window
from tinyhil.harness.model.tflite_moves import packed, parts_of


@dataclass
class Expansion:
    """Collects the operators that one of the file becomes. `inputs` and `outputs` are tensor indices of the
    file, `add` makes another tensor."""

    context: Context
    inputs: Sequence[int]
    outputs: Sequence[int]
    tensors: Sequence[Tensor]
    add: Callable[[Tensor], int]
    ops: list[Op] = field(default_factory=list)

    def new(self, tensor: Tensor) -> int:
        """A tensor in between, or a constant."""
        return self.add(tensor)

    def op(self, spec: OpSpec, inputs: Sequence[int], shapes: Sequence[Shape], like: Tensor,
           shape: Shape | None = None) -> int:  # fmt: skip
        """An operator and its output, quantised like `like`; `shape` where the inputs do not say it."""
        try:
            out = output_shape(spec, shapes, shape)
        except ValueError as error:
            raise MalformedModel(f"{error}.") from None
        index = self.new(replace(like, shape=out, data=None))
        self.ops.append(Op(spec, tuple(inputs), (index,)))
        return index

    def last(self, spec: OpSpec, inputs: Sequence[int]) -> None:
        """The operator that writes the first output."""
        self.ops.append(Op(spec, tuple(inputs), (self.outputs[0],)))


def _split(e: Expansion) -> None:
    place, slices = parts_of(e.context, e.tensors)
    e.ops = [Op(s, (e.inputs[place],), (o,)) for s, o in zip(slices, e.outputs, strict=True)]


def _pack(e: Expansion) -> None:
    axis, shapes = packed(e.context)
    parts = [
        e.op(Reshape(), [index], [e.context.input(n).shape], e.context.input(n), shape)
        for n, (index, shape) in enumerate(zip(e.inputs, shapes, strict=True))
    ]
    e.last(Concatenation(axis), parts)


def _block_size(e: Expansion, cls: type, kind: int) -> int:
    size = int(e.context.required(cls, kind).BlockSize())
    if not 1 <= size <= 64:
        raise MalformedModel(f"block size {size}.")
    return size


def _depth_to_space(e: Expansion) -> None:
    """[H, W, b, b, C] becomes [H, b, W, b, C]."""
    b = _block_size(e, tflite.DepthToSpaceOptions, tflite.BuiltinOptions.DepthToSpaceOptions)
    x = e.context.input(0)
    (h, w), c = image_size(x), x.shape[3]
    if c % (b * b):
        raise MalformedModel(f"{c} channels are no blocks of {b}x{b}.")
    apart = (1, h, w, b, b, c // (b * b))
    _shuffle(e, x, apart, e.inputs[0])


def _space_to_depth(e: Expansion) -> None:
    """[H, b, W, b, C] becomes [H, W, b, b, C]."""
    b = _block_size(e, tflite.SpaceToDepthOptions, tflite.BuiltinOptions.SpaceToDepthOptions)
    x = e.context.input(0)
    (h, w), c = image_size(x), x.shape[3]
    if h % b or w % b:
        raise MalformedModel(f"an image of {h}x{w} has no whole blocks of {b}x{b}.")
    _shuffle(e, x, (1, h // b, b, w // b, b, c), e.inputs[0])


def _shuffle(e: Expansion, x: Tensor, apart: Shape, source: int) -> None:
    """Exchanges the third and the fourth of six dimensions."""
    split = e.op(Reshape(), [source], [x.shape], x, apart)
    turned = e.op(Transpose((0, 1, 3, 2, 4, 5)), [split], [apart], x)
    e.last(Reshape(), [turned])


def _reduce_max(e: Expansion) -> None:
    """A maximum over rows and columns, or over the steps of a sequence, is a pool with one window."""
    c = e.context
    x, rank = c.input(0), len(c.input(0).shape)
    axes = sorted({axis % rank for axis in c.constant(1, "axes") if -rank <= axis < rank})
    if x.shape[0] != 1 or (rank, axes) not in ((4, [1, 2]), (3, [1])):
        raise UnsupportedOperator(
            f"over dimensions {axes} of {list(x.shape)}; supported are rows and columns of an image, and the "
            "steps of a sequence [1, N, C]."
        )
    image = x.shape if rank == 4 else (1, x.shape[1], 1, x.shape[2])
    source = e.inputs[0] if rank == 4 else e.op(Reshape(), [e.inputs[0]], [x.shape], x, image)
    kernel = window(image[1], image[2], "window")
    pooled = e.op(MaxPool2D(kernel, kernel), [source], [image], x)
    e.last(Reshape(), [pooled])


def _transpose_conv(e: Expansion) -> None:
    """Each phase of the stride is a convolution of its own; all of them are channels of one, and their rows
    and columns are put between each other.

    Output row r sits at position r + top of the full one; position s * q + p takes weight row p + s * j from
    input row q - j.
    """
    c = e.context
    o = c.required(tflite.TransposeConvOptions, tflite.BuiltinOptions.TransposeConvOptions)
    if o.FusedActivationFunction():
        raise UnsupportedOperator("a fused activation; put it into an operator of its own.")
    x, w, out = c.input(2), c.input(1), c.output
    if w.data is None or w.quant is None or len(w.shape) != 4:
        raise UnsupportedOperator("its weights are no quantised constants of four dimensions.")
    (h, wide), stride = image_size(x), window(o.StrideH(), o.StrideW(), "stride")
    kernel = window(w.shape[1], w.shape[2], "kernel")
    if len(out.shape) != 4 or c.constant(0, "output shape") != list(out.shape):
        raise MalformedModel("its shape input and the shape of its output differ.")
    taps = [-(-k // s) for k, s in zip(kernel, stride, strict=True)]
    before = [0, 0]
    if o.Padding() == tflite.Padding.SAME:
        sizes = zip((h, wide), kernel, stride, out.shape[1:3], strict=True)
        before = [max((n - 1) * s + k - full, 0) // 2 for n, k, s, full in sizes]
    phases, channels = stride[0] * stride[1], out.shape[3]
    weights = _phases(np.asarray(w.data), stride, (taps[0], taps[1]))
    quant = w.quant
    if quant.per_channel:
        quant = Quantization(quant.scale * phases, quant.zero_point * phases, 0)
    inputs = [e.inputs[2], e.new(replace(w, shape=weights.shape, data=weights, quant=quant))]
    if len(c.inputs) > 3 and (bias := c.inputs[3]) is not None and bias.data is not None:
        data = np.tile(bias.data.reshape(-1), phases)
        inputs.append(e.new(replace(bias, shape=data.shape, data=data, quant=None)))
    spec = Conv2D(pads=(taps[0] - 1, taps[0] - 1, taps[1] - 1, taps[1] - 1))
    shapes = [x.shape, weights.shape]
    found = e.op(spec, [*inputs, -1][:3], shapes, out)
    q = (h + taps[0] - 1, wide + taps[1] - 1)
    apart = (1, *q, *stride, channels)
    split = e.op(Reshape(), [found], [(1, *q, phases * channels)], out, apart)
    turned = e.op(Transpose((0, 1, 3, 2, 4, 5)), [split], [apart], out)
    full = (1, q[0] * stride[0], q[1] * stride[1], channels)
    joined = e.op(Reshape(), [turned], [(1, q[0], stride[0], q[1], stride[1], channels)], out, full)
    end = (1, before[0] + out.shape[1], before[1] + out.shape[2], channels)
    if end[1] > full[1] or end[2] > full[2]:
        raise UnsupportedOperator(f"its output is larger than {full[1]}x{full[2]}, which its input reaches.")
    e.last(StridedSlice((0, *before, 0), end, (1, 1, 1, 1)), [joined])


def _phases(
    weights: npt.NDArray[np.generic], stride: tuple[int, int], taps: tuple[int, int]
) -> npt.NDArray[np.generic]:
    """OHWI weights of a transposed convolution as those of one convolution [phases * O, taps, taps, I]."""
    out, kh, kw, depth = weights.shape
    padded = np.zeros((out, taps[0] * stride[0], taps[1] * stride[1], depth), weights.dtype)
    padded[:, :kh, :kw] = weights
    apart = padded.reshape(out, taps[0], stride[0], taps[1], stride[1], depth)
    flipped = apart[:, ::-1, :, ::-1].transpose(2, 4, 0, 1, 3, 5)  # phase row, phase column, out, taps
    result = np.ascontiguousarray(flipped.reshape(-1, *taps, depth))
    result.flags.writeable = False
    return result


EXPANSIONS: dict[str, Callable[[Expansion], None]] = {
    "SPLIT": _split,
    "SPLIT_V": _split,
    "UNPACK": _split,
    "PACK": _pack,
    "DEPTH_TO_SPACE": _depth_to_space,
    "SPACE_TO_DEPTH": _space_to_depth,
    "REDUCE_MAX": _reduce_max,
    "TRANSPOSE_CONV": _transpose_conv,
}
