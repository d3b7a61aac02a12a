"""SPACE_TO_BATCH_ND, a convolution, BATCH_TO_SPACE_ND: how converters write a dilated convolution, with
reshapes between them where it is one-dimensional. Found as a whole and read as what it is.

SPACE_TO_BATCH_ND pads with the zero point, as TFLite does it; TFLM pads with whatever its memory holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tinyhil.errors import MalformedModel, UnsupportedOperator
from tinyhil.harness.model.graph import Conv2D, DepthwiseConv2D, Op, Reshape, Tensor
from tinyhil.harness.model.shapes import Shape
from tinyhil.harness.model.tflite_context import Context
from tinyhil.harness.model.tflite_moves import SHAPE_ONLY
from tinyhil.harness.model.tflite_ops import parse_spec
from tinyhil.harness.model.tflite_variables import RawOp

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True)
class Dilated:
    """The operators of one dilated convolution in the file: the first, the convolution, the last."""

    first: RawOp
    convolution: RawOp
    last: RawOp


def find_dilated(raws: Sequence[RawOp], outputs: Sequence[int]) -> list[RawOp | Dilated]:
    """The operators with each such group in the place of its last one."""
    readers: dict[int, list[int]] = {}
    for number, raw in enumerate(raws):
        for index in raw.inputs:
            readers.setdefault(index, []).append(number)

    def only_reader(raw: RawOp) -> int | None:
        found = readers.get(raw.outputs[0], []) if len(raw.outputs) == 1 else []
        return found[0] if len(found) == 1 and raw.outputs[0] not in outputs else None

    gone: set[int] = set()
    groups: dict[int, Dilated] = {}
    for number, raw in enumerate(raws):
        if raw.kind != "SPACE_TO_BATCH_ND":
            continue
        members, convolution = [number], None
        while (after := only_reader(raws[members[-1]])) is not None:
            members.append(after)
            kind = raws[after].kind
            if kind in _CONVOLUTIONS and convolution is None:
                convolution = raws[after]
            elif kind == "BATCH_TO_SPACE_ND" and convolution is not None:
                groups[after] = Dilated(raw, convolution, raws[after])
                gone.update(members)
                break
            elif kind not in SHAPE_ONLY:
                break
    return [groups.get(n, raw) for n, raw in enumerate(raws) if n in groups or n not in gone]


def dilated_ops(
    group: Dilated,
    context: Callable[[RawOp], Context],
    add: Callable[[Tensor], int],
) -> list[Op]:
    """The group as a convolution, between reshapes where it is one-dimensional."""
    first, last, inside = context(group.first), context(group.last), context(group.convolution)
    x, out, within = first.input(0), last.output, inside.input(0)
    block = first.constant(1, "block shape")
    if block != last.constant(1, "block shape") or not 1 <= len(block) <= 2 or min(block) < 1:
        raise MalformedModel(f"blocks {block} and {last.constant(1, 'block shape')}.")
    pads, crops = first.constant(2, "paddings"), last.constant(2, "crops")
    if len(pads) != 2 * len(block) or len(crops) != 2 * len(block) or len(within.shape) != 4:
        raise MalformedModel(f"paddings {pads} and crops {crops} for blocks of {block}.")
    kept = [p - c for p, c in zip(pads, crops, strict=True)]
    if min(kept) < 0:
        raise UnsupportedOperator(f"it cuts off more ({crops}) than it pads ({pads}).")
    flat = len(x.shape) == 3
    columns = flat and within.shape[1] == 1  # of a sequence: steps are columns, or rows
    if x.shape[0] != 1 or len(x.shape) not in (3, 4) or (flat and len(block) != 1):
        raise UnsupportedOperator(f"on shape {list(x.shape)}; supported are images and sequences, batch 1.")
    dilations = (1, block[0]) if columns else (block[0], block[1] if len(block) == 2 else 1)
    sides = (0, 0, *kept) if columns else (*kept, *([] if len(kept) == 4 else [0, 0]))
    image, result = _image(x.shape, columns), _image(out.shape, columns)
    spec, used = parse_spec(
        replace(
            inside, inputs=(replace(x, shape=image), *inside.inputs[1:]), output=replace(out, shape=result)
        )
    )
    assert isinstance(spec, Conv2D | DepthwiseConv2D)
    if spec.strides != (1, 1) or spec.dilations != (1, 1) or any(spec.pads):
        raise UnsupportedOperator("the convolution between has strides, a dilation or a padding of its own.")
    if x.quant != within.quant or out.quant != inside.output.quant:
        raise MalformedModel("moving values changes their scale.")
    top, bottom, left, right = sides
    spec = replace(spec, dilations=dilations, pads=(top, bottom, left, right))
    source, target, ops = group.first.inputs[0], group.last.outputs[0], list[Op]()
    if flat:
        source = add(replace(x, shape=image, data=None))
        ops.append(Op(Reshape(), (group.first.inputs[0],), (source,)))
        target = add(replace(out, shape=result, data=None))
    operands = [source, *group.convolution.inputs[1:], -1, -1]
    ops.append(Op(spec, tuple(operands[:used]), (target,)))
    if flat:
        ops.append(Op(Reshape(), (target,), (group.last.outputs[0],)))
    return ops


def _image(shape: Shape, columns: bool) -> Shape:
    if len(shape) != 3:
        return shape
    return (1, 1, *shape[1:]) if columns else (1, shape[1], 1, shape[2])
