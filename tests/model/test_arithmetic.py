"""Integer constants and fixed-point functions, against exact and floating-point arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyhil.errors import MalformedModel
from tinyhil.harness.model.arithmetic import (
    activation_range,
    add_params,
    conv_params,
    rescale_params,
)
from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.fixed_point import (
    exp_on_negative_values,
    logistic,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from tinyhil.harness.model.graph import (
    Activation,
    Add,
    Conv2D,
    DType,
    FullyConnected,
    Logistic,
    Mean,
    Quantization,
    Softmax,
    Tensor,
)
from tinyhil.harness.model.tables import softmax_params, table_params

int32 = st.integers(-(2**31), 2**31 - 1)


def half_away(value: Fraction) -> int:
    return int(abs(value) + Fraction(1, 2)) * (1 if value >= 0 else -1)


@given(real=st.floats(2.0**-31, 2.0**29))
def test_a_multiplier_is_within_its_last_bit(real: float) -> None:
    multiplier, shift = quantize_multiplier(real)
    assert 1 << 30 <= multiplier < 1 << 31
    assert abs(multiplier * 2.0 ** (shift - 31) - real) <= 2.0 ** (shift - 32)


def test_tiny_multipliers_are_zero_and_huge_ones_refused() -> None:
    assert quantize_multiplier(0.0) == (0, 0)
    assert quantize_multiplier(2.0**-33) == (0, 0)
    for real in (2.0**31, float("inf"), float("nan")):
        with pytest.raises(MalformedModel, match="32-bit"):
            quantize_multiplier(real)


@given(x=int32, exponent=st.integers(0, 31))
def test_dividing_by_a_power_of_two_rounds_half_away_from_zero(x: int, exponent: int) -> None:
    assert int(rounding_divide_by_pot(x, exponent)) == half_away(Fraction(x, 1 << exponent))


@given(a=int32, b=int32)
def test_the_high_product_is_within_half_of_the_exact_one(a: int, b: int) -> None:
    result = int(saturating_rounding_doubling_high_mul(a, b))
    exact = Fraction(a * b, 1 << 31)
    assert abs(result - min(exact, Fraction(2**31 - 1))) <= Fraction(1, 2)
    if (a * b) % (1 << 31) != 1 << 30:  # not a tie
        assert result == min(half_away(exact), 2**31 - 1)


def test_the_high_product_saturates_only_once() -> None:
    assert int(saturating_rounding_doubling_high_mul(-(2**31), -(2**31))) == 2**31 - 1


@given(x=st.integers(-(2**24), 2**24), real=st.floats(2.0**-20, 2.0**5))
def test_two_roundings_are_at_most_one_away_from_the_exact_product(x: int, real: float) -> None:
    multiplier, shift = quantize_multiplier(real)
    result = int(multiply_by_quantized_multiplier(x, multiplier, shift))
    exact = Fraction(x) * multiplier * Fraction(2) ** (shift - 31)
    assert abs(result - exact) <= 1


@given(raw=st.integers(-(2**31) + 1, 0))
def test_exp_is_close_to_exp(raw: int) -> None:
    assert abs(int(exp_on_negative_values(raw, 5)) / 2**31 - np.exp(raw / 2**26)) < 1e-6


@given(raw=st.integers(-(2**31) + 1, 2**31 - 1))
def test_logistic_is_close_to_logistic(raw: int) -> None:
    assert abs(int(logistic(raw, 4)) / 2**31 - 1 / (1 + np.exp(-raw / 2**27))) < 1e-6


def test_activation_ranges_are_in_output_steps() -> None:
    out = Tensor("y", (1,), DType.INT8, per_tensor(0.05, -100))
    assert activation_range(Activation.NONE, out) == (-128, 127)
    assert activation_range(Activation.RELU, out) == (-100, 127)
    assert activation_range(Activation.RELU6, out) == (-100, 20)
    assert activation_range(Activation.RELU_N1_TO_1, out) == (-120, -80)


@pytest.mark.parametrize(
    ("quant", "shifts"),
    [(per_tensor(0.5), [-1, -1, -1]), (Quantization((0.5, 0.25, 0.125), (0, 0, 0)), [-1, -2, -3])],
)
def test_a_convolution_has_one_multiplier_per_channel(quant: Quantization, shifts: list[int]) -> None:
    b = Builder()
    x = b.input((1, 1, 1, 1), 0.5, 3)
    w = b.constant(np.ones((3, 1, 1, 1), np.int8), quant)
    b.op(Conv2D(), [x, w, -1], per_tensor(1.0, -7))
    p = conv_params(b.graph("g", [2]), b.ops[0])
    assert (p.input_offset, p.output_offset) == (-3, -7)
    assert p.multiplier.tolist() == [1 << 30] * 3  # 0.25, 0.125, 0.0625 are powers of two
    assert p.shift.tolist() == shifts


def test_fully_connected_multiplies_its_scales_in_single_precision() -> None:
    b = Builder()
    x = b.input((1, 1), 0.1)
    w = b.constant(np.ones((1, 1), np.int8), per_tensor(0.3))
    b.op(FullyConnected(), [x, w, -1], per_tensor(0.7))
    p = conv_params(b.graph("g", [2]), b.ops[0])
    single = float(np.float32(0.1) * np.float32(0.3)) / float(np.float32(0.7))
    double = float(np.float32(0.1)) * float(np.float32(0.3)) / float(np.float32(0.7))
    assert quantize_multiplier(single) != quantize_multiplier(double)
    assert (p.multiplier[0], p.shift[0]) == quantize_multiplier(single)


def test_an_add_of_equal_scales_halves_both() -> None:
    b = Builder()
    x, y = b.input((1, 1), 0.5), b.input((1, 1), 0.5)
    b.op(Add(), [x, y], per_tensor(0.5))
    p = add_params(b.graph("g", [2]), b.ops[0])
    assert (p.input1_multiplier, p.input1_shift) == (p.input2_multiplier, p.input2_shift) == (1 << 30, 0)
    assert (p.output_multiplier, p.output_shift, p.left_shift) == (1 << 30, -18, 20)


def test_a_mean_divides_in_its_multiplier() -> None:
    b = Builder()
    b.op(Mean((1, 2)), [b.input((1, 5, 5, 2), 0.5)], per_tensor(0.5))
    p = rescale_params(b.graph("g", [1]), b.ops[0])
    assert p.count == 25
    assert abs(p.multiplier * 2.0 ** (p.shift - 31) - 1 / 25) < 1e-8


def test_softmax_skips_what_is_too_far_below_the_maximum() -> None:
    b = Builder()
    b.op(Softmax(), [b.input((1, 4), 0.5)], per_tensor(1 / 256, -128))
    p = softmax_params(b.graph("g", [1]), b.ops[0])
    assert p.exp[0] == 2**31 - 1
    assert p.exp[-p.diff_min + 1] == 0
    expected = np.exp(-0.5 * np.arange(20))
    assert np.abs(p.exp[:20] / 2**31 - expected).max() < 1e-6


def test_a_sigmoid_is_a_rising_table() -> None:
    b = Builder()
    b.op(Logistic(), [b.input((1, 4), 0.05, 10)], per_tensor(1 / 256, -128))
    table = table_params(b.graph("g", [1]), b.ops[0]).table.astype(int)
    assert (np.diff(table) >= 0).all()
    assert table[10 + 128] == 0
