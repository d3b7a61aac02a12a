"""A network of three layers, small enough to build and boot in a moment."""

from __future__ import annotations

import numpy as np

from tinyhil.harness.model.graph import (
    Activation,
    Conv2D,
    DType,
    FullyConnected,
    Graph,
    Mean,
    Op,
    Quantization,
    Tensor,
)
from tinyhil.harness.model.tflite_writer import write_tflite


def tiny_tflite(channels: int = 8, side: int = 8, seed: int = 0) -> bytes:
    """conv 3x3 stride 2 → mean → fully connected, seeded weights."""
    random = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return random.integers(-127, 128, shape).astype(np.int8)

    def activation(name: str, *shape: int, scale: float = 0.05, zero: int = -128) -> Tensor:
        return Tensor(name, shape, DType.INT8, Quantization((scale,), (zero,)))

    def constant(name: str, data: np.ndarray, scale: tuple[float, ...]) -> Tensor:
        dtype = DType(data.dtype.name)
        return Tensor(name, data.shape, dtype, Quantization(scale, (0,) * len(scale)), data)

    per_channel = tuple(float(s) for s in np.float32(random.uniform(0.001, 0.003, channels)))
    tensors = (
        activation("image", 1, side, side, 3, scale=0.02, zero=3),
        constant("conv/w", weights(channels, 3, 3, 3), per_channel),
        constant("conv/b", random.integers(-500, 500, channels).astype(np.int32),
                 tuple(float(np.float32(0.02) * np.float32(s)) for s in per_channel)),
        activation("conv", 1, side // 2, side // 2, channels),
        activation("mean", 1, channels),
        constant("fc/w", weights(4, channels), (0.004,)),
        constant("fc/b", random.integers(-500, 500, 4).astype(np.int32), (0.0002,)),
        activation("logits", 1, 4, scale=0.1, zero=5),
    )  # fmt: skip
    ops = (
        Op(Conv2D((2, 2), pads=(0, 1, 0, 1), activation=Activation.RELU), (0, 1, 2), (3,)),
        Op(Mean((1, 2)), (3,), (4,)),
        Op(FullyConnected(), (4, 5, 6), (7,)),
    )
    return write_tflite(Graph("tiny", tensors, ops, (0,), (7,)))
