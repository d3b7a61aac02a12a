"""Inputs that every measurement is checked with: zeros, seeded noise, and something that looks real.

All are derived from the network's own input description, so any network can be measured without a
data set, and two runs always use the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyhil.harness.model.graph import DType, Graph, Tensor

Array = npt.NDArray[Any]


def zeros(tensor: Tensor) -> Array:
    """Real value 0 everywhere: the zero point of an int8 input."""
    zero = tensor.zero_point if tensor.quant and tensor.dtype is not DType.FLOAT32 else 0
    return np.full(tensor.shape, zero, tensor.dtype.numpy)


def noise(tensor: Tensor) -> Array:
    """Uniform over the whole int8 range (or [-1, 1] for float), seeded by the shape."""
    random = _generator(tensor, "noise")
    if tensor.dtype is DType.FLOAT32:
        return random.uniform(-1, 1, tensor.shape).astype(np.float32)
    low, high = _limits(tensor)
    return random.integers(low, high, tensor.shape, endpoint=True).astype(tensor.dtype.numpy)


def smooth(tensor: Tensor) -> Array:
    """A few low-frequency waves along each axis plus a little noise, as photographs and
    spectrograms have them, over the whole range of the type."""
    random = _generator(tensor, "smooth")
    field = np.zeros(tensor.shape)
    for axis, length in enumerate(tensor.shape):
        along = np.linspace(0, 1, length).reshape([-1 if a == axis else 1 for a in range(field.ndim)])
        for _ in range(3):
            field = field + random.uniform(0.3, 1) * np.sin(
                2 * np.pi * (random.uniform(0.5, 4) * along + random.random())
            )
    field += random.normal(0, 0.1, tensor.shape)
    field /= np.abs(field).max() or 1.0
    if tensor.dtype is DType.FLOAT32:
        return field.astype(np.float32)
    low, high = _limits(tensor)
    return np.clip(np.rint(field * high), low, high).astype(tensor.dtype.numpy)


SAMPLES: dict[str, Callable[[Tensor], Array]] = {"zeros": zeros, "noise": noise, "smooth": smooth}


def samples(graph: Graph) -> dict[str, tuple[Array, ...]]:
    """For each kind of sample one array per network input, keyed by the kind's name."""
    inputs = [graph.tensors[index] for index in graph.inputs]
    return {name: tuple(make(tensor) for tensor in inputs) for name, make in SAMPLES.items()}


def _limits(tensor: Tensor) -> tuple[int, int]:
    info = np.iinfo(tensor.dtype.value)
    return info.min, info.max


def _generator(tensor: Tensor, purpose: str) -> np.random.Generator:
    key = hashlib.sha256(f"{purpose} {tensor.shape} {tensor.dtype}".encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:8], "little"))
