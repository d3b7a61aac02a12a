"""Puts a Graph together tensor by tensor; shapes follow from the operators."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinyhil.harness.model.graph import DType, Graph, Op, OpSpec, Quantization, Tensor
from tinyhil.harness.model.shapes import Shape, output_shape


class Builder:
    """Collects tensors and operators; every method gives the index of the tensor that it adds."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.inputs: list[int] = []

    def input(self, shape: Shape, scale: float = 1.0, zero_point: int = 0, dtype: DType = DType.INT8) -> int:
        """A network input; float32 inputs have no quantisation."""
        quant = None if dtype is DType.FLOAT32 else per_tensor(scale, zero_point)
        self.inputs.append(self._tensor(Tensor(f"input{len(self.inputs)}", shape, dtype, quant)))
        return self.inputs[-1]

    def constant(self, values: npt.NDArray[np.generic], quant: Quantization | None = None,
                 dtype: DType | None = None) -> int:  # fmt: skip
        """Weights or another constant; `dtype` only where it is not that of `values` (int4)."""
        data = np.ascontiguousarray(values)
        data.flags.writeable = False
        kind = dtype or DType(data.dtype.name)
        return self._tensor(Tensor(f"constant{len(self.tensors)}", data.shape, kind, quant, data))

    def op(self, spec: OpSpec, inputs: list[int], quant: Quantization | None, shape: Shape | None = None,
           dtype: DType = DType.INT8) -> int:  # fmt: skip
        """An operator and its output. `shape` where the inputs do not determine it (Reshape, resizing).

        Raises ValueError where the shapes do not go together."""
        shapes = [self.tensors[i].shape for i in inputs if i >= 0]
        result = output_shape(spec, shapes, shape)
        name = f"{type(spec).__name__.lower()}{len(self.ops)}"
        out = self._tensor(Tensor(name, result, dtype, quant))
        self.ops.append(Op(spec, tuple(inputs), (out,)))
        return out

    def graph(self, name: str, outputs: list[int]) -> Graph:
        """The finished network."""
        return Graph(name, tuple(self.tensors), tuple(self.ops), tuple(self.inputs), tuple(outputs))

    def _tensor(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1


def per_tensor(scale: float, zero_point: int = 0) -> Quantization:
    """One scale (rounded to float32, as files keep it) and one zero point."""
    return Quantization((float(np.float32(scale)),), (zero_point,))
