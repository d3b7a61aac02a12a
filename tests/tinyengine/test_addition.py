"""Additions as one linear form: equal to TFLM's for every pair of inputs, or not used."""

from __future__ import annotations

import numpy as np
from engine_checks import RunC, random_inputs
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import Activation, Add, DType, Graph, Op, Quantization, Tensor
from tinyhil.harness.tinyengine import TinyEngine
from tinyhil.harness.tinyengine.addition import expected, find_linear
from tinyhil.harness.tinyengine.lowering import lower
from tinyhil.harness.tinyengine.work import AddWork

scales = st.floats(0.001, 0.5)
zero_points = st.integers(-128, 127)


def addition(
    scale: tuple[float, float, float],
    zero_point: tuple[int, int, int],
    activation: Activation = Activation.NONE,
    shape: tuple[int, ...] = (1, 256, 256, 1),
) -> Graph:
    tensors = tuple(
        Tensor(name, shape, DType.INT8, Quantization((s,), (z,)))
        for name, s, z in zip("abc", scale, zero_point, strict=True)
    )
    return Graph("add", tensors, (Op(Add(activation), (0, 1), (2,)),), (0, 1), (2,))


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(scales, scales, scales),
    st.tuples(zero_points, zero_points, zero_points),
    st.sampled_from([Activation.NONE, Activation.RELU, Activation.RELU6]),
)
def test_constants_that_are_found_are_exact_for_every_pair(
    scale: tuple[float, float, float], zero_point: tuple[int, int, int], activation: Activation
) -> None:
    graph = addition(scale, zero_point, activation)
    work = lower(graph).steps[0].work
    assert isinstance(work, AddWork)
    values = np.arange(-128, 128, dtype=np.int8)
    x = np.ascontiguousarray(np.broadcast_to(values[:, None], (256, 256))).reshape(1, 256, 256, 1)
    q = np.ascontiguousarray(np.broadcast_to(values[None, :], (256, 256))).reshape(1, 256, 256, 1)
    want = reference.run(graph, [x, q])[0].reshape(256, 256)
    np.testing.assert_array_equal(expected(work), want)
    found = find_linear(work)
    if found is not None:
        products = found.a * x.astype(np.int64) + found.b * q.astype(np.int64)
        total = products + found.c
        assert max(np.abs(products).max(), np.abs(total).max()) < 1 << 31
        np.testing.assert_array_equal(
            np.clip(total >> found.shift, work.low, work.high).reshape(256, 256), want
        )


def test_usual_scales_are_found() -> None:
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(50):
        a, b, c = (float(v) for v in rng.uniform(0.01, 0.2, 3))
        za, zb, zc = (int(v) for v in rng.integers(-128, 128, 3))
        work = lower(addition((a, b, c), (za, zb, zc))).steps[0].work
        assert isinstance(work, AddWork)
        found += find_linear(work) is not None
    assert found == 50


def test_the_generated_sum_is_exact_in_place(run_c: RunC) -> None:
    graph = addition((0.03, 0.05, 0.06), (3, -7, 1), Activation.RELU, (1, 5, 5, 3))
    sources = TinyEngine().generate(graph, get_board("native"), Options())
    assert sources.layers[0].kernel == "linear-add"
    assert sources.arena == 2 * 76 - 1  # the sum lies over one of its inputs
    inputs = random_inputs(graph, 3)
    np.testing.assert_array_equal(run_c(sources, [inputs])[0][0], reference.run(graph, inputs)[0])
