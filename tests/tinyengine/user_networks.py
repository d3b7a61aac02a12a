"""Networks as users' converters write them, small: what TensorFlow's layers become in a .tflite file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinyhil.harness.model.builder import Builder, per_tensor
from tinyhil.harness.model.graph import (
    Activation,
    Add,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    DType,
    FullyConnected,
    Graph,
    HardSwish,
    LeakyRelu,
    Logistic,
    Maximum,
    Mean,
    Minimum,
    Mul,
    OpSpec,
    Prelu,
    Quantization,
    Quantize,
    Reshape,
    ResizeBilinear,
    ResizeNearestNeighbor,
    Softmax,
    State,
    StridedSlice,
    Sub,
    Tanh,
    Transpose,
)
from tinyhil.harness.model.shapes import Shape, same_pads


class Layers(Builder):
    """Layers with seeded weights whose outputs keep the scale of their input."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = np.random.default_rng(seed)

    def layer(self, spec: OpSpec, *inputs: int, scale: float = 0.0, zero_point: int = 0,
              shape: Shape | None = None) -> int:  # fmt: skip
        """An operator, quantised like its first input unless `scale` is given."""
        quant = per_tensor(scale, zero_point) if scale else self.tensors[inputs[0]].quant
        return self.op(spec, list(inputs), quant, shape)

    def value(self, number: int, scale: float, zero_point: int = -128) -> int:
        """A constant of one element."""
        return self.constant(np.array([number], np.int8), per_tensor(scale, zero_point))

    def _weights(self, x: int, shape: Shape, axis: int, taps: int) -> list[int]:
        scales = tuple(
            float(np.float32(s / taps**0.5)) for s in self.random.uniform(0.004, 0.016, shape[axis])
        )
        w = self.constant(
            self.random.integers(-127, 128, shape).astype(np.int8),
            Quantization(scales, (0,) * len(scales), axis),
        )
        return [x, w, self.constant(self.random.integers(-600, 600, shape[axis]).astype(np.int32))]

    def conv(self, x: int, out: int, kernel: tuple[int, int] = (1, 1), stride: int = 1,
             relu: bool = False, same: bool = True) -> int:  # fmt: skip
        """A convolution, SAME or VALID."""
        _, h, w, c = self.tensors[x].shape
        pads = same_pads((h, w), kernel, (stride, stride)) if same else (0, 0, 0, 0)
        spec = Conv2D((stride, stride), (1, 1), pads, Activation.RELU if relu else Activation.NONE)
        inputs = self._weights(x, (out, *kernel, c), 0, kernel[0] * kernel[1] * c)
        return self.op(spec, inputs, per_tensor(self.tensors[x].scale, -128 if relu else 4))

    def depthwise(self, x: int, kernel: tuple[int, int], stride: int = 1, relu: bool = False,
                  dilation: int = 1, same: bool = True) -> int:  # fmt: skip
        """A depthwise convolution; `dilation` along rows."""
        _, h, w, c = self.tensors[x].shape
        spread, strides = (dilation, 1), (stride, stride)
        pads = same_pads((h, w), kernel, strides, spread) if same else (0, 0, 0, 0)
        spec = DepthwiseConv2D(1, strides, spread, pads, Activation.RELU if relu else Activation.NONE)
        inputs = self._weights(x, (1, *kernel, c), 3, kernel[0] * kernel[1])
        return self.op(spec, inputs, per_tensor(self.tensors[x].scale, -128 if relu else 4))

    def hard_swish(self, x: int, apart: bool) -> int:
        """As one operator, or as older converters write it: x * (relu6(x + 3) * (1 / 6))."""
        scale = self.tensors[x].scale
        if not apart:
            return self.layer(HardSwish(), x, scale=scale, zero_point=-100)
        above = self.layer(Add(Activation.RELU6), x, self.value(127, 3 / 255), scale=6 / 255, zero_point=-128)
        gate = self.layer(Mul(), above, self.value(127, 1 / 6 / 255), scale=1 / 255, zero_point=-128)
        return self.layer(Mul(), x, gate, scale=scale, zero_point=-100)


def small_mobilenet() -> Graph:
    """MobileNetV3's blocks: squeeze and excite, hard swish in both forms, unsigned bytes at the port."""
    b = Layers(31)
    image = b.input((1, 20, 18, 3), 1 / 64, 128, DType.UINT8)
    x = b.layer(Quantize(), image, scale=1 / 64)
    x = b.hard_swish(b.conv(x, 8, (3, 3), 2), apart=False)
    for apart in (False, True):
        start = x
        x = b.hard_swish(b.conv(x, 20), apart)
        x = b.hard_swish(b.depthwise(x, (5, 5)), not apart)
        mean = b.layer(Mean((1, 2), keep_dims=True), x)
        gate = b.layer(Logistic(), b.conv(b.conv(mean, 5, relu=True), 20), scale=1 / 256, zero_point=-128)
        x = b.layer(Mul(), x, gate)
        x = b.layer(Add(), start, b.conv(x, 8), scale=1 / 40, zero_point=-30)
    x = b.layer(Reshape(), b.layer(Mean((1, 2)), x), shape=(1, 8))
    w = b.constant(b.random.integers(-127, 128, (5, 8)).astype(np.int8), per_tensor(0.01))
    x = b.layer(FullyConnected(), x, w, -1, scale=0.1)
    return b.graph("small_mobilenet", [b.layer(Softmax(), x, scale=1 / 256, zero_point=-128)])


def pyramid() -> Graph:
    """A detector: two scales joined by bilinear and nearest resizing, boxes cut and put together again."""
    b = Layers(32)
    fine = b.layer(LeakyRelu(0.1), b.conv(b.input((1, 24, 20, 3), 1 / 64, 3), 8, (3, 3), 2))
    slopes = b.constant(b.random.integers(-127, 128, (1, 1, 12)).astype(np.int8), per_tensor(0.004, 9))
    coarse = b.layer(Prelu(), b.conv(b.depthwise(fine, (3, 3), 2), 12), slopes)
    up = b.layer(ResizeBilinear(half_pixel_centers=True), coarse, shape=(1, 12, 10, 12))
    side = b.layer(Quantize(), b.conv(fine, 12), scale=b.tensors[up].scale, zero_point=4)
    joined = b.conv(b.layer(Concatenation(3), up, side), 12, (3, 3), relu=True)
    other = b.layer(ResizeNearestNeighbor(half_pixel_centers=True), coarse, shape=(1, 9, 7, 12))
    heads = [
        b.layer(Reshape(), b.conv(x, 4), shape=(1, cells, 4)) for x, cells in ((joined, 120), (coarse, 30))
    ]
    boxes = b.layer(Concatenation(1), *heads)
    middle = b.layer(StridedSlice((0, 0, 0), (1, 150, 2), (1, 1, 1)), boxes)
    size = b.layer(StridedSlice((0, 0, 2), (1, 150, 4), (1, 1, 1)), boxes)
    low = b.layer(Maximum(), b.layer(Sub(), middle, size), b.value(-100, 1 / 64, 4))
    high = b.layer(Minimum(), b.layer(Add(), middle, size), b.value(100, 1 / 64, 4))
    corners = b.layer(Transpose((0, 2, 1)), b.layer(Concatenation(2), low, high))
    return b.graph("pyramid", [corners, b.layer(Logistic(), other, scale=1 / 256, zero_point=-128)])


def upsampler() -> Graph:
    """What depth to space and transposed convolutions are read as: six dimensions, and back."""
    b = Layers(33)
    x = b.conv(b.input((1, 5, 4, 6), 1 / 64), 12, (2, 2))
    x = b.layer(Reshape(), x, shape=(1, 5, 4, 2, 2, 3))
    x = b.layer(Reshape(), b.layer(Transpose((0, 1, 3, 2, 4, 5)), x), shape=(1, 10, 8, 3))
    return b.graph("upsampler", [b.layer(StridedSlice((0, 1, 0, 0), (1, 10, 8, 3), (1, 1, 1, 1)), x)])


def wake_words() -> Graph:
    """A streaming wake-word net with variables: dilated memories, gates of tanh and sigmoid."""
    b = Layers(34)
    x = b.input((1, 2, 1, 16), 1 / 32, -128)
    kept: list[int] = []
    states: list[State] = []

    def remember(x: int, rows: int) -> int:
        _, new, _, c = b.tensors[x].shape
        quant = b.tensors[x].quant
        assert quant is not None
        before = b.input((1, rows, 1, c), quant.scale[0], quant.zero_point[0])
        window = b.layer(Concatenation(1), before, x)
        slices = StridedSlice((0, new, 0, 0), (1, rows + new, 1, c), (1, 1, 1, 1))
        kept.append(b.layer(slices, window))
        place = len(kept)
        states.append(State(place, place, b.random.integers(-128, 128, (1, rows, 1, c)).astype(np.int8)))
        return window

    x = b.conv(remember(x, 2), 12, (4, 1), relu=True, same=False)
    for dilation in (1, 2):
        y = b.conv(b.depthwise(remember(x, 2 * dilation), (3, 1), dilation=dilation, same=False), 12)
        gate = b.layer(Logistic(), y, scale=1 / 256, zero_point=-128)
        y = b.layer(Mul(), b.layer(Tanh(), y, scale=1 / 128), gate, scale=1 / 128)
        x = b.layer(Add(Activation.RELU), x, y, scale=1 / 32, zero_point=-128)
    x = b.layer(Reshape(), x, shape=(1, 1, 12))
    w = b.constant(b.random.integers(-127, 128, (4, 12)).astype(np.int8), per_tensor(0.01))
    x = b.layer(FullyConnected(keep_num_dims=True), x, w, -1, scale=0.1, shape=(1, 1, 4))
    score = b.layer(Softmax(), x, scale=1 / 256, zero_point=-128)
    return replace(b.graph("wake_words", [score, *kept]), states=tuple(states))


NETWORKS = {make.__name__: make for make in (small_mobilenet, pyramid, upsampler, wake_words)}
