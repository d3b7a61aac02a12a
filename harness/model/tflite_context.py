"""What is known of an operator of a .tflite file while its options are read, and the checks that all share.

Messages here are without place; the reader puts it in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import tflite

from tinyhil.errors import MalformedModel, UnsupportedOperator
from tinyhil.harness.model.graph import Activation, DType, Tensor

T = TypeVar("T")

MAX_WINDOW = 4096  # kernel, stride or dilation; also keeps the arithmetic of shapes small

_ACTIVATIONS = {
    tflite.ActivationFunctionType.NONE: Activation.NONE,
    tflite.ActivationFunctionType.RELU: Activation.RELU,
    tflite.ActivationFunctionType.RELU6: Activation.RELU6,
    tflite.ActivationFunctionType.RELU_N1_TO_1: Activation.RELU_N1_TO_1,
}


@dataclass(frozen=True)
class Context:
    """What is known of an operator when its options are read."""

    where: str
    kind: str
    raw: Any
    inputs: tuple[Tensor | None, ...]
    output: Tensor

    def input(self, index: int) -> Tensor:
        """Input `index`; MalformedModel where it is absent."""
        if index >= len(self.inputs) or (tensor := self.inputs[index]) is None:
            raise MalformedModel(f"input {index} is missing.")
        return tensor

    def options(self, cls: type[T], kind: int) -> T | None:
        """The operator's option table, None where it has none (all defaults)."""
        table = self.raw.BuiltinOptions()
        if table is None or self.raw.BuiltinOptionsType() == 0:
            return None
        if self.raw.BuiltinOptionsType() != kind:
            raise MalformedModel("its options are those of another operator.")
        options = cls()
        options.Init(table.Bytes, table.Pos)  # type: ignore[attr-defined]
        return options

    def required(self, cls: type[T], kind: int) -> T:
        """The operator's option table; MalformedModel without one."""
        if (options := self.options(cls, kind)) is None:
            raise MalformedModel("its options are missing.")
        return options

    def constant(self, index: int, what: str, limit: int = 64) -> list[int]:
        """A small constant integer input as a flat list."""
        tensor = self.input(index)
        if tensor.data is None:
            raise UnsupportedOperator(
                f"its {what} are computed at run time; supported are constants. "
                "Convert the network with fixed shapes."
            )
        if tensor.dtype not in (DType.INT32, DType.INT64, DType.INT8) or tensor.elements > limit:
            raise MalformedModel(f"its {what} are {tensor.elements} values of {tensor.dtype}.")
        return [int(v) for v in tensor.data.reshape(-1).tolist()]


def fused(value: int) -> Activation:
    """The activation of that number in the file."""
    if value not in _ACTIVATIONS:
        raise UnsupportedOperator(f"fused activation number {value}; supported are {', '.join(Activation)}.")
    return _ACTIVATIONS[value]


def image_size(tensor: Tensor) -> tuple[int, int]:
    """Height and width of an image; UnsupportedOperator where it is none."""
    if len(tensor.shape) != 4 or tensor.shape[0] != 1:
        raise UnsupportedOperator(
            f"its input has shape {list(tensor.shape)}; supported are images [1, H, W, C]. "
            "Convert the network with batch size 1."
        )
    return tensor.shape[1], tensor.shape[2]


def window(h: int, w: int, what: str) -> tuple[int, int]:
    """A kernel, stride or dilation, checked."""
    if not (1 <= h <= MAX_WINDOW and 1 <= w <= MAX_WINDOW):
        raise MalformedModel(f"{what} of {h}×{w}; each must be 1 to {MAX_WINDOW}.")
    return h, w
