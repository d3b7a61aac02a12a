"""The operators of a network, each with TFLite's semantics: what it computes, not on which tensors.

Padding is always explicit (SAME and VALID are resolved when a file is read), so that a PAD operator can be
folded into the convolution behind it. Element types are int8 unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Activation(StrEnum):
    """Activation fused into an operator."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"
    RELU_N1_TO_1 = "relu_n1_to_1"


Pads: TypeAlias = tuple[int, int, int, int]  # top, bottom, left, right


@dataclass(frozen=True)
class Conv2D:
    """inputs: x [1,H,W,Ci], w [Co,KH,KW,Ci], optional bias int32 [Co]."""

    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class DepthwiseConv2D:
    """inputs: x [1,H,W,Ci], w [1,KH,KW,Ci*multiplier], optional bias int32."""

    multiplier: int = 1
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class FullyConnected:
    """inputs: x flattened to [N,K], w [M,K], optional bias int32 [M]."""

    activation: Activation = Activation.NONE
    keep_num_dims: bool = False


@dataclass(frozen=True)
class Add:
    """Element-wise with broadcasting; both inputs int8."""

    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class Mul:
    """Element-wise with broadcasting; both inputs int8."""

    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class Sub:
    """First input minus the second, element-wise with broadcasting."""

    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class Maximum:
    """Of two inputs, element-wise with broadcasting; all quantised alike."""


@dataclass(frozen=True)
class Minimum:
    """Of two inputs, element-wise with broadcasting; all quantised alike."""


@dataclass(frozen=True)
class Prelu:
    """x above zero, x times the second input below; with broadcasting."""


@dataclass(frozen=True)
class AveragePool2D:
    """Average over the part of the window inside the input, rounded half away from zero."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class MaxPool2D:
    """Maximum over the part of the window inside the input."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class Mean:
    """Mean over `axes` (non-negative, sorted)."""

    axes: tuple[int, ...]
    keep_dims: bool = False


@dataclass(frozen=True)
class Pad:
    """Constant padding, (before, after) per dimension; pads with the zero point unless `value`."""

    amounts: tuple[tuple[int, int], ...]
    value: int | None = None


@dataclass(frozen=True)
class Reshape:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the same bytes under another shape."""


@dataclass(frozen=True)
class Softmax:
    """Over the last dimension."""

    beta: float = 1.0


@dataclass(frozen=True)
class Logistic:
    """Sigmoid."""


@dataclass(frozen=True)
class Tanh:
    """Hyperbolic tangent."""


@dataclass(frozen=True)
class HardSwish:
    """x * relu6(x + 3) / 6."""


@dataclass(frozen=True)
class LeakyRelu:
    """x above zero, alpha * x below."""

    alpha: float


@dataclass(frozen=True)
class Relu:
    """RELU, RELU6, RELU_N1_TO_1 alone, with requantisation where scales differ."""

    activation: Activation


@dataclass(frozen=True)
class Concatenation:
    """Along a non-negative axis."""

    axis: int
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class ResizeNearestNeighbor:
    """Output size is the output tensor's."""

    align_corners: bool = False
    half_pixel_centers: bool = False


@dataclass(frozen=True)
class ResizeBilinear:
    """Output size is the output tensor's."""

    align_corners: bool = False
    half_pixel_centers: bool = False


@dataclass(frozen=True)
class Transpose:
    """Output dimension i is input dimension perm[i]."""

    perm: tuple[int, ...]


@dataclass(frozen=True)
class StridedSlice:
    """Masks resolved: begin and stride per input dimension; length follows from the output's shape
    (`shrink` lists dimensions that vanish)."""

    begin: tuple[int, ...]
    end: tuple[int, ...]
    strides: tuple[int, ...]
    shrink: tuple[int, ...] = ()


@dataclass(frozen=True)
class Quantize:
    """float32 → int8, or int8 → int8 or uint8 with other parameters."""


@dataclass(frozen=True)
class Dequantize:
    """int8 → float32."""


OpSpec: TypeAlias = (
    Conv2D | DepthwiseConv2D | FullyConnected | Add | Sub | Mul | Maximum | Minimum | Prelu
    | AveragePool2D | MaxPool2D | Mean | Pad | Reshape | Softmax | Logistic | Tanh | HardSwish
    | LeakyRelu | Relu | Concatenation | ResizeNearestNeighbor | ResizeBilinear | Transpose
    | StridedSlice | Quantize | Dequantize
)  # fmt: skip
