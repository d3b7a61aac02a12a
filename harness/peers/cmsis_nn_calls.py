"""One network layer → one call of CMSIS-NN's public int8 API, with the scratch that the library documents.

What the library has no function for (Mean, Transpose, Resize, table look-ups, broadcasts) is left to
portable C; `call_of` answers None there.

Scratch is what the library's `*_get_buffer_size` functions answer on Armv7E-M (compiled with GCC). The
generated firmware asks those functions before its first run and refuses to start if one of them wants more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from tinyhil.harness.model import arithmetic
from tinyhil.harness.model.graph import (
    AveragePool2D,
    Concatenation,
    DType,
    Graph,
    MaxPool2D,
    Mul,
    Op,
    Pad,
    Softmax,
)
from tinyhil.harness.model.tables import softmax_params
from tinyhil.harness.tinyengine.ctext import render, safe_comment, static_text
from tinyhil.harness.tinyengine.kernel import Code
from tinyhil.harness.tinyengine.lowering import Step
from tinyhil.harness.tinyengine.work import AddWork, ConvWork, DepthwiseWork, GraphWork

_HELPERS = ("cmsis_nn_layer.h", "cmsis_nn_layer.c")
_CALL_BYTES = 120  # about what one call with its parameter structs takes, weights apart


@dataclass(frozen=True, eq=False)
class Call:
    """A candidate (see tinyengine.kernel) that is one library function; `kernel` is that function's name.

    `asks_buffer`: a function SYMBOL_buffer_size() is emitted that asks the library for its scratch.
    """

    kernel: str
    template: str
    values: Mapping[str, Any]
    gaps: tuple[int | None, ...]
    scratch: int = 0
    flash: int = _CALL_BYTES
    instructions: int = 0
    asks_buffer: bool = False
    shared: Mapping[str, int] = field(default_factory=dict)

    def emit(self, symbol: str) -> Code:
        """The call as a C function."""
        values = {"function": self.kernel, "scratch": self.scratch, **self.values}
        text = render(self.template, symbol=symbol, **values)
        return Code(text, helpers(), ('"cmsis_nn_layer.h"',))


def helpers() -> dict[str, str]:
    """The C files that all layers share."""
    return {name: static_text(name) for name in _HELPERS}


def conv_scratch(work: ConvWork) -> int:
    """arm_convolve_wrapper_s8_get_buffer_size: two columns of im2col in int16, none for 1x1."""
    kh, kw = work.kernel
    if (kh, kw) == (1, 1) and not work.pads[0] and not work.pads[2] and work.dilations == (1, 1):
        return 0
    column = kh * kw * work.x.channels
    return 2 * (column + -column % 4) * 2


def depthwise_scratch(work: DepthwiseWork) -> int:
    """arm_depthwise_conv_wrapper_s8_get_buffer_size: one window of int16; none for 3x3 or a multiplier."""
    kh, kw = work.kernel
    if work.x.channels != work.y.channels or work.dilations != (1, 1):
        return 0
    if (kh, kw) == (3, 3) and work.pads[0] <= 1 and work.pads[2] <= 1:
        return 0
    return work.x.channels * kh * kw * 2


def call_of(graph: Graph, step: Step) -> Call | None:
    """The library call for one step; None where the library has no function for it."""
    op = graph.ops[step.op]
    match step.work:
        case ConvWork() as work:
            if step.kind == "FullyConnected":
                return _dense(graph, op, work)
            return None if _one_sided(work) else _conv(op, work)
        case DepthwiseWork() as work:
            return _depthwise(op, work)
        case AddWork() as work:
            return _add(work)
        case GraphWork():
            return _other(graph, op)


def _one_sided(work: ConvWork) -> bool:
    """A 1x1 convolution with pads at the bottom or right alone: the library takes it for an unpadded one."""
    top, bottom, left, right = work.pads
    return work.kernel == (1, 1) and not (top or left) and bool(bottom or right)


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _weighted(op: Op, work: ConvWork | DepthwiseWork, what: str) -> dict[str, Any]:
    x, y, r = work.x, work.y, work.requant
    return {
        "weights": work.weights,
        "bias": work.bias,
        "biased": len(op.inputs) > 2 and op.inputs[2] >= 0,
        "multiplier": r.multiplier,
        "shift": r.shift,
        "input": (1, x.height, x.width, x.channels),
        "channels": (1, 1, 1, y.channels),
        "output": (1, y.height, y.width, y.channels),
        "input_offset": -x.zero_point,
        "output_offset": r.zero_point,
        "low": r.low,
        "high": r.high,
        "strides": work.strides,
        "pads": work.pads,  # bottom and right follow from the output's size
        "dilations": work.dilations,
        "dense": False,
        "depthwise": False,
        "comment": safe_comment(
            f"{what} {_size(work.kernel)}: {x.height}x{x.width}x{x.channels} -> "
            f"{y.height}x{y.width}x{y.channels}, {work.macs} MACs."
        ),
    }


def _flash(work: ConvWork | DepthwiseWork) -> int:
    return int(work.weights.size) + 12 * work.y.channels + _CALL_BYTES


def _conv(op: Op, work: ConvWork) -> Call:
    values = _weighted(op, work, "Convolution") | {
        "filter": (work.y.channels, *work.kernel, work.x.channels),
        "params_type": "cmsis_nn_conv_params",
        "quant_type": "cmsis_nn_per_channel_quant_params",
        "buffer_function": "arm_convolve_wrapper_s8_get_buffer_size",
    }
    return Call(
        "arm_convolve_wrapper_s8", "cmsis_nn_conv.c.j2", values, (None,), conv_scratch(work), _flash(work),
        5 * work.macs, asks_buffer=True,
    )  # fmt: skip


def _depthwise(op: Op, work: DepthwiseWork) -> Call:
    values = _weighted(op, work, "Depthwise convolution") | {
        "filter": (1, *work.kernel, work.y.channels),
        "params_type": "cmsis_nn_dw_conv_params",
        "quant_type": "cmsis_nn_per_channel_quant_params",
        "buffer_function": "arm_depthwise_conv_wrapper_s8_get_buffer_size",
        "depthwise": True,
        "depth_multiplier": work.multiplier,
    }
    return Call(
        "arm_depthwise_conv_wrapper_s8", "cmsis_nn_conv.c.j2", values, (None,), depthwise_scratch(work),
        _flash(work), 9 * work.macs, asks_buffer=True,
    )  # fmt: skip


def _dense(graph: Graph, op: Op, work: ConvWork) -> Call:
    rows, depth, channels = work.x.pixels, work.x.channels, work.y.channels
    quant = graph.tensors[op.inputs[1]].quant
    per_channel = quant is not None and quant.per_channel
    kept = channels if per_channel else 1
    values = _weighted(op, work, "Fully connected") | {
        "multiplier": work.requant.multiplier[:kept],
        "shift": work.requant.shift[:kept],
        "input": (rows, 1, 1, depth),
        "filter": (depth, 1, 1, channels),
        "output": (rows, 1, 1, channels),
        "params_type": "cmsis_nn_fc_params",
        "quant_type": "cmsis_nn_quant_params",
        "buffer_function": "arm_fully_connected_s8_get_buffer_size",
        "dense": True,
        "per_channel": int(per_channel),
    }
    return Call(
        "arm_fully_connected_wrapper_s8", "cmsis_nn_conv.c.j2", values, (None,), 0, _flash(work),
        3 * work.macs, asks_buffer=True,
    )  # fmt: skip


def _call(
    function: str, arguments: Sequence[Sequence[object]], pointers: int, comment: str, **values: Any
) -> Call:
    calls = [", ".join(map(str, words)) for words in arguments]
    filled = {"calls": calls, "pointers": pointers, "comment": comment, "dims": (), "status": True, **values}
    return Call(function, "cmsis_nn_call.c.j2", filled, (None,) * pointers)


def _add(work: AddWork) -> Call:
    words = [
        "x0", "x1", -work.x.zero_point, *work.x_scale, -work.other.zero_point, *work.other_scale,
        work.left_shift, "y", work.y.zero_point, *work.y_scale, work.low, work.high, work.y.nbytes,
    ]  # fmt: skip
    return _call("arm_elementwise_add_s8", [words], 2, f"Sum of two tensors of {work.y.nbytes} values.")


def _other(graph: Graph, op: Op) -> Call | None:
    if any(graph.tensors[i].dtype is not DType.INT8 for i in (*op.inputs, *op.outputs)):
        return None
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    match op.spec:
        case AveragePool2D() | MaxPool2D() as spec if len(x.shape) == 4:
            return _pool(graph, op, spec)
        case Softmax():
            p = softmax_params(graph, op)
            depth = x.shape[-1]
            words = ["x0", x.elements // depth, depth, p.multiplier, p.left_shift, p.diff_min, "y"]
            return _call("arm_softmax_s8", [words], 1, f"Softmax over {depth} values.", status=False)
        case Mul() if all(graph.tensors[i].data is None for i in op.inputs):
            return _mul(graph, op)
        case Pad() as spec if len(x.shape) == 4:
            before, after = ([pair[i] for pair in spec.amounts] for i in (0, 1))
            value = y.zero_point if spec.value is None else spec.value
            words = ["x0", "y", value, "&input", "&before", "&after"]
            dims = (("input", x.shape), ("before", before), ("after", after))
            return _call(
                "arm_pad_s8", [words], 1, f"Pad: {_size(x.shape)} -> {_size(y.shape)}.", dims=dims
            )  # fmt: skip
        case Concatenation() as spec:
            return _concat(graph, op, spec)
        case _:
            return None


def _pool(graph: Graph, op: Op, spec: AveragePool2D | MaxPool2D) -> Call:
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    average = isinstance(spec, AveragePool2D)
    low, high = arithmetic.activation_range(spec.activation, y)
    values = {
        "input": x.shape,
        "output": y.shape,
        "window": spec.kernel,
        "strides": spec.strides,
        "pads": spec.pads,
        "low": low,
        "high": high,
        "average": average,
        "comment": f"{op.kind} {_size(spec.kernel)}: {_size(x.shape[1:])} -> {_size(y.shape[1:])}.",
    }
    # arm_avgpool_s8_get_buffer_size: one int32 per channel.
    return Call(
        "arm_avgpool_s8" if average else "arm_max_pool_s8", "cmsis_nn_pool.c.j2", values, (None,),
        4 * x.shape[3] if average else 0, asks_buffer=average,
    )  # fmt: skip


def _mul(graph: Graph, op: Op) -> Call | None:
    a, b = (graph.tensors[i] for i in op.inputs)
    y = graph.tensors[op.outputs[0]]
    if a.shape != b.shape:
        return None
    p = arithmetic.mul_params(graph, op)
    words = [
        "x0", "x1", p.input1_offset, p.input2_offset, "y", p.output_offset, p.multiplier, p.shift,
        p.activation_min, p.activation_max, y.elements,
    ]  # fmt: skip
    return _call("arm_elementwise_mul_s8", [words], 2, f"Product of two tensors of {y.elements} values.")


def _concat(graph: Graph, op: Op, spec: Concatenation) -> Call | None:
    """The library names a tensor's dimensions w, z, y, x from outside in, whatever they mean."""
    tensors = [graph.tensors[i] for i in op.inputs]
    y = graph.tensors[op.outputs[0]]
    if any(t.data is not None for t in tensors) or max(y.shape) > 0xFFFF:
        return None
    outer, inner = prod(y.shape[: spec.axis]), prod(y.shape[spec.axis + 1 :])
    if inner > 0xFFFF or outer > 0xFFFF:
        return None
    calls, offset = [], 0
    for position, tensor in enumerate(tensors):
        size = tensor.shape[spec.axis]
        calls.append((f"x{position}", inner, size, outer, 1, "y", y.shape[spec.axis], offset))
        offset += size
    comment = f"Concatenation -> {_size(y.shape)}."
    return _call("arm_concatenation_s8_y", calls, len(tensors), comment, status=False)
