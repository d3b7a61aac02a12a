"""Dice for random networks: shapes, quantisations, weights and windows, odd on purpose."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import numpy as np

from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import Activation, Pads, Quantization
from tinyhil.harness.model.shapes import same_pads

Random: TypeAlias = np.random.Generator


def pick(random: Random, choices: Any) -> Any:
    """One of `choices`."""
    return choices[int(random.integers(len(choices)))]


def image_shape(random: Random) -> tuple[int, ...]:
    """[1, H, W, C], all small."""
    h, w, c = random.integers(1, 13), random.integers(1, 13), random.integers(1, 20)
    return 1, int(h), int(w), int(c)


def random_quant(random: Random) -> Quantization:
    """One scale, and a zero point that is often at an end."""
    zero_point = pick(random, (-128, -1, 0, 3, 127, int(random.integers(-128, 128))))
    return per_tensor(float(2 ** random.uniform(-8, 0)), zero_point)


def image(b: Builder, random: Random) -> int:
    """A network input."""
    quant = random_quant(random)
    return b.input(image_shape(random), quant.scale[0], quant.zero_point[0])


def activation(random: Random) -> Activation:
    """Any activation, none more often."""
    return cast(Activation, pick(random, (Activation.NONE, *Activation)))


def scale_of(b: Builder, x: int) -> float:
    """The scale of tensor `x`."""
    return b.tensors[x].scale


def output(random: Random, spread: float) -> Quantization:
    """A quantisation that fits values of standard deviation `spread`, within a factor of four."""
    return per_tensor(spread / 50 * float(2 ** random.uniform(-2, 2)), int(random.integers(-128, 128)))


def weights(b: Builder, random: Random, x: int, shape: tuple[int, ...], channel_axis: int,
             taps: int) -> tuple[list[int], Quantization]:  # fmt: skip
    """Weights and mostly a bias for input x; also an output quantisation that suits them."""
    channels = shape[channel_axis]
    per_channel = random.random() < 0.7
    scales = 2 ** random.uniform(-9, -5, channels if per_channel else 1)
    quant = Quantization(
        tuple(float(np.float32(s)) for s in scales),
        (0,) * len(scales),
        channel_axis if len(scales) > 1 else 0,
    )
    values = random.integers(-127, 128, shape).astype(np.int8)
    inputs = [x, b.constant(values, quant)]
    deviation = 73.0 * 73.0 * taps**0.5
    if random.random() < 0.85:
        bias = (random.normal(0.0, deviation, channels)).astype(np.int32)
        scale = tuple(float(np.float32(scale_of(b, x) * s)) for s in quant.scale)
        inputs.append(b.constant(bias, Quantization(scale, (0,) * len(scale))))
    else:
        inputs.append(-1)
    return inputs, output(random, deviation * scale_of(b, x) * float(np.median(quant.scale)))


def pads(b: Builder, random: Random, x: int, kernel: tuple[int, int], strides: tuple[int, int],
          dilations: tuple[int, int] = (1, 1)) -> Pads:  # fmt: skip
    """No padding where the window fits, otherwise (and half the time) SAME."""
    _, h, w, _ = b.tensors[x].shape
    fits = all((k - 1) * d < n for n, k, d in zip((h, w), kernel, dilations, strict=True))
    if fits and random.random() < 0.5:
        return 0, 0, 0, 0
    return same_pads((h, w), kernel, strides, dilations)


def window(random: Random, largest: int = 5) -> tuple[tuple[int, int], tuple[int, int]]:
    """Kernel and strides."""
    kernel = pick(random, ((1, 1), (3, 3), tuple(int(n) for n in random.integers(1, largest + 1, 2))))
    strides = pick(random, ((1, 1), (2, 2), tuple(int(n) for n in random.integers(1, 4, 2))))
    return kernel, strides


def dilations(random: Random, strides: tuple[int, int]) -> tuple[int, int]:
    """Above one now and then, where strides allow it."""
    return pick(random, ((1, 1), (1, 1), (2, 2), (1, 3))) if strides == (1, 1) else (1, 1)


# -- operators; each takes an int8 tensor and gives an int8 tensor
