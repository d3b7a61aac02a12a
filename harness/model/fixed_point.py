"""TFLM's fixed-point arithmetic on arrays, bit for bit.

Sources: gemmlowp `fixedpoint/fixedpoint.h` (SaturatingRoundingDoublingHighMul, RoundingDivideByPOT,
exp_on_negative_values, logistic, tanh) and TFLite `kernels/internal/{common,quantization_util}.cc`, built
with two roundings, as TFLM builds them. Values are held in int64 so that nothing overflows silently; where
the C code would wrap at 32 bits, so does this.
"""

from __future__ import annotations

from math import frexp
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tinyhil.errors import MalformedModel

Ints: TypeAlias = npt.NDArray[np.int64]

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def as_ints(values: npt.ArrayLike) -> Ints:
    """Any integers as int64."""
    return np.asarray(values, dtype=np.int64)


def wrap32(values: Ints) -> Ints:
    """What remains of the values in a 32-bit two's complement register."""
    return values.astype(np.int32).astype(np.int64)


def quantize_multiplier(real: float) -> tuple[int, int]:
    """A positive real number as (multiplier, shift) with real ≈ multiplier · 2^(shift - 31).

    The multiplier is in [2^30, 2^31), or 0 where `real` is under about 2^-32. QuantizeMultiplier of TFLite.
    MalformedModel where it would not fit a 32-bit shift.
    """
    if real == 0.0:
        return 0, 0
    if not real < 1 << 30:
        raise MalformedModel(
            f"the scales give a multiplier of {real:.3g}, beyond 32-bit arithmetic. "
            "Are the quantisation parameters damaged?"
        )
    fraction, shift = frexp(real)
    multiplier = int(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    if shift < -31:
        return 0, 0
    return multiplier, shift


def saturating_rounding_doubling_high_mul(a: npt.ArrayLike, b: npt.ArrayLike) -> Ints:
    """round(a · b / 2^31), half away from zero but for negative halves, saturated (int32 inputs)."""
    a, b = as_ints(a), as_ints(b)
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    truncated = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))
    return as_ints(np.minimum(truncated, INT32_MAX))  # only (-2^31)² gets there


def rounding_divide_by_pot(x: npt.ArrayLike, exponent: npt.ArrayLike) -> Ints:
    """round(x / 2^exponent), half away from zero; exponent 0 to 31."""
    x, exponent = as_ints(x), as_ints(exponent)
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def multiply_by_quantized_multiplier(
    x: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike
) -> Ints:
    """x · multiplier · 2^(shift - 31) with TFLM's two roundings; broadcasts (per-channel arrays)."""
    shift = as_ints(shift)
    shifted = wrap32(as_ints(x) << np.maximum(shift, 0))
    return rounding_divide_by_pot(
        saturating_rounding_doubling_high_mul(shifted, multiplier), np.maximum(-shift, 0)
    )


def round_half_away(x: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """C's round(): to the nearest integer, halves away from zero."""
    wide = x.astype(np.float64)
    rounded: npt.NDArray[np.float64] = np.sign(wide) * np.floor(np.abs(wide) + 0.5)
    return rounded


# -- exp and logistic. Qm.n below means m integer bits and n fractional bits; Q0.31 is a value in [-1, 1).


def _shift_left_saturating(x: Ints, bits: int) -> Ints:
    return as_ints(np.clip(x << bits, INT32_MIN, INT32_MAX))


def _exp_between_minus_quarter_and_0(a: Ints) -> Ints:
    """exp(a) for a in [-1/4, 0), Q0.31: a fourth-order Taylor series around -1/8."""
    mul = saturating_rounding_doubling_high_mul
    exp_minus_eighth, third = 1895147668, 715827883
    x = a + (1 << 28)
    x2 = mul(x, x)
    x3 = mul(x2, x)
    x4_over_4 = rounding_divide_by_pot(mul(x2, x2), 2)
    tail = rounding_divide_by_pot(mul(x4_over_4 + x3, third) + x2, 1)
    return exp_minus_eighth + mul(exp_minus_eighth, x + tail)


# exp(-2^i) in Q0.31 for i = -2 … 4
_EXP_OF_MINUS_POWER = {
    -2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242,
}  # fmt: skip


def exp_on_negative_values(a: npt.ArrayLike, integer_bits: int) -> Ints:
    """exp(a) in Q0.31 for a ≤ 0 in Q`integer_bits` (up to 5)."""
    a = as_ints(a)
    fractional_bits = 31 - integer_bits
    quarter = 1 << (fractional_bits - 2)
    rest = (a & (quarter - 1)) - quarter
    result = _exp_between_minus_quarter_and_0(_shift_left_saturating(rest, integer_bits))
    remainder = rest - a
    for exponent, factor in _EXP_OF_MINUS_POWER.items():
        if exponent < integer_bits:
            bit = (remainder >> (fractional_bits + exponent)) & 1
            result = np.where(bit == 1, saturating_rounding_doubling_high_mul(result, factor), result)
    return np.where(a == 0, INT32_MAX, result)


def one_over_one_plus_x(x: npt.ArrayLike) -> Ints:
    """1 / (1 + x) in Q0.31 for x in [0, 1), Q0.31: three Newton-Raphson steps."""
    mul = saturating_rounding_doubling_high_mul
    half_denominator = (as_ints(x) + INT32_MAX + 1) >> 1
    estimate = 1515870810 + mul(half_denominator, -1010580540)  # 48/17 - 32/17 · d, Q2.29
    for _ in range(3):
        error = (1 << 29) - mul(half_denominator, estimate)
        estimate = estimate + _shift_left_saturating(mul(estimate, error), 2)
    return _shift_left_saturating(estimate, 1)


def logistic(x: npt.ArrayLike, integer_bits: int) -> Ints:
    """1 / (1 + exp(-x)) in Q0.31 for x in Q`integer_bits`."""
    x = as_ints(x)
    positive = one_over_one_plus_x(exp_on_negative_values(-np.abs(x), integer_bits))
    return np.where(x > 0, positive, np.where(x == 0, 1 << 30, INT32_MAX - positive))


def _one_minus_x_over_one_plus_x(x: Ints) -> Ints:
    """(1 - x) / (1 + x) in Q0.31 for x in [0, 1), Q0.31: 2 / (1 + x) by Newton-Raphson, minus one."""
    mul = saturating_rounding_doubling_high_mul
    half_denominator = (x + INT32_MAX + 1) >> 1
    estimate = 1515870810 + mul(half_denominator, -1010580540)
    for _ in range(3):
        error = (1 << 29) - mul(half_denominator, estimate)
        estimate = estimate + _shift_left_saturating(mul(estimate, error), 2)
    return _shift_left_saturating(estimate - (1 << 29), 2)


def tanh(x: npt.ArrayLike, integer_bits: int) -> Ints:
    """tanh(x) in Q0.31 for x in Q`integer_bits` (up to 4)."""
    x = as_ints(x)
    # exp(-2 |x|): one integer bit more doubles what the same bits mean
    magnitude = _one_minus_x_over_one_plus_x(exp_on_negative_values(-np.abs(x), integer_bits + 1))
    return np.where(x == 0, 0, np.where(x < 0, -magnitude, magnitude))


# -- the same in 16 bits


def shift_left_saturating16(x: Ints, bits: int) -> Ints:
    """x · 2^bits, kept inside int16."""
    return as_ints(np.clip(x << bits, -(1 << 15), (1 << 15) - 1))


def doubling_high_mul16(a: npt.ArrayLike, b: npt.ArrayLike, rounding: bool) -> Ints:
    """a · b / 2^15 towards zero, or rounded to the nearest, saturated (int16 inputs)."""
    product = as_ints(a) * as_ints(b)
    if rounding:
        product = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    truncated = np.where(product >= 0, product >> 15, -(-product >> 15))
    return as_ints(np.minimum(truncated, (1 << 15) - 1))


def reciprocal(x: npt.ArrayLike, integer_bits: int) -> tuple[Ints, Ints]:
    """1 / x for positive x in Q`integer_bits`: (Q0.31 value, number of bits that x is over 1)."""
    x = as_ints(x)
    bit_length = np.floor(np.log2(x.astype(np.float64))).astype(np.int64) + 1
    headroom = 32 - bit_length
    return one_over_one_plus_x((x << headroom) - (1 << 31)), integer_bits - headroom
