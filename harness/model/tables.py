"""Operators on one int8 value as tables of all 256 of them, with TFLM's arithmetic; softmax's exponentials.

Sources: TFLM's `logistic_common.cc`, `tanh.cc`, `hard_swish_common.cc`, `leaky_relu_common.cc` and
`softmax_common.cc` with the reference kernels that they call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor

import numpy as np
import numpy.typing as npt

from tinyhil.errors import MalformedModel
from tinyhil.harness.model.fixed_point import (
    Ints,
    as_ints,
    doubling_high_mul16,
    exp_on_negative_values,
    logistic,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
    shift_left_saturating16,
    tanh,
    wrap32,
)  # fmt: skip
from tinyhil.harness.model.graph import Graph, HardSwish, LeakyRelu, Logistic, Op, Softmax, Tanh

QMIN, QMAX = -128, 127


@dataclass(frozen=True, eq=False)
class SoftmaxParams:
    """`exp` [256] int32, Q0.31: exp(beta · scale · -d) at index d = max - x; 0 where TFLM skips it."""

    multiplier: int
    left_shift: int
    diff_min: int
    exp: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class TableParams:
    """The answer for every int8 input: [256] int8, indexed by x + 128."""

    table: npt.NDArray[np.int8]


def single_quotient(a: float, b: float) -> float:
    """a / b where the C code divides floats; may be infinite for damaged scales."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(a) / np.float32(b))


def softmax_params(graph: Graph, op: Op) -> SoftmaxParams:
    """Constants of a Softmax over int8."""
    assert isinstance(op.spec, Softmax)
    integer_bits = 5
    scale = float(np.float32(op.spec.beta)) * graph.tensors[op.inputs[0]].scale
    real = min(scale * (1 << (31 - integer_bits)), (1 << 31) - 1.0)
    if real <= 1.0:
        raise MalformedModel(f"a softmax over steps of {scale:.3g} is flat. Is the input's scale damaged?")
    multiplier, left_shift = quantize_multiplier(real) if real < (1 << 30) else _wide_multiplier(real)
    radius = floor(((1 << integer_bits) - 1) * (1 << (31 - integer_bits)) / (1 << left_shift))
    diffs = -as_ints(range(256))
    scaled = saturating_rounding_doubling_high_mul(wrap32(diffs << left_shift), multiplier)
    table = np.where(diffs >= -radius, exp_on_negative_values(scaled, integer_bits), 0)
    return SoftmaxParams(multiplier, left_shift, -radius, table.astype(np.int32))


def _wide_multiplier(real: float) -> tuple[int, int]:
    """Softmax alone may shift by 31: only d = 0 and 1 are inside the radius then, nothing is lost."""
    multiplier, shift = quantize_multiplier(real / 2)
    return multiplier, shift + 1


def table_params(graph: Graph, op: Op) -> TableParams:
    """The table of a Logistic, Tanh, HardSwish or LeakyRelu."""
    x, out = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    centred = as_ints(range(QMIN, QMAX + 1)) - x.zero_point
    match op.spec:
        case Logistic():
            values = _bounded(centred, x.scale, logistic, 23, -128)
        case Tanh():
            values = _bounded(centred, x.scale, tanh, 24, 0)
        case HardSwish():
            values = _hard_swish(centred, x.scale, out.scale) + out.zero_point
        case LeakyRelu(alpha):
            slope = float(np.float32(x.scale) * np.float32(alpha))
            below, above = (quantize_multiplier(single_quotient(s, out.scale)) for s in (slope, x.scale))
            sides = [multiply_by_quantized_multiplier(centred, *pair) for pair in (below, above)]
            values = np.where(centred >= 0, sides[1], sides[0]) + out.zero_point
        case _:
            raise AssertionError(op.kind)
    return TableParams(np.clip(values, QMIN, QMAX).astype(np.int8))


def _bounded(
    centred: Ints, scale: float, function: Callable[[Ints, int], Ints], down: int, offset: int
) -> Ints:
    """`function` of the input in Q4.27, its Q0.31 shifted `down`; saturated beyond what Q4.27 holds."""
    integer_bits = 4
    real = scale * (1 << (31 - integer_bits))
    multiplier, shift, radius = 0, 0, 0  # one step of a scale over 8 saturates
    if real < 1 << 30:
        multiplier, shift = quantize_multiplier(real)
        radius = floor(((1 << integer_bits) - 1) * (1 << (31 - integer_bits)) / 2.0**shift)
    inside = np.abs(centred) < radius
    scaled = multiply_by_quantized_multiplier(np.where(inside, centred, 0), multiplier, shift)
    values = np.clip(rounding_divide_by_pot(function(scaled, integer_bits), down) + offset, QMIN, QMAX)
    return np.where(inside, values, np.where(centred > 0, QMAX, QMIN))


def _hard_swish(centred: Ints, scale: float, output_scale: float) -> Ints:
    """x * relu6(x + 3) / 6 in 16-bit arithmetic, in steps of the output."""
    fine = float(np.float32(1 / 128) * np.float32(scale))  # the input's step, seven bits finer
    output, output_shift = _quantize_multiplier16(single_quotient(fine, output_scale))
    ramp, ramp_shift = _quantize_multiplier16(single_quotient(fine, float(np.float32(3) / np.float32(32768))))
    if not -15 <= output_shift <= 0:
        raise MalformedModel(
            f"a hard swish from steps of {scale:.3g} to steps of {output_scale:.3g} is beyond TFLite's "
            "16-bit arithmetic. Are the quantisation parameters damaged?"
        )
    x = centred << 7
    gate = x  # becomes relu6(x + 3) / 6 in Q0.15
    if ramp_shift > 0:
        gate = shift_left_saturating16(gate, ramp_shift - 1)
    gate = doubling_high_mul16(gate, ramp, rounding=True)
    if ramp_shift > 0:
        gate = shift_left_saturating16(gate, 1)
    if ramp_shift < 0:
        gate = rounding_divide_by_pot(gate, -ramp_shift)
    gate = (gate + (1 << 15)) >> 1
    product = doubling_high_mul16(gate, doubling_high_mul16(x, output, rounding=True), rounding=False)
    return rounding_divide_by_pot(product, -output_shift)


def _quantize_multiplier16(real: float) -> tuple[int, int]:
    """As quantize_multiplier, with a multiplier of 16 bits."""
    multiplier, shift = quantize_multiplier(real)
    return min((multiplier + (1 << 15)) >> 16, (1 << 15) - 1), shift
