"""What a layer's run time may depend on: counts per class of operation, from the architecture alone.

The counts are those of loops that any kernel has: calls, channels, pixels, elements read and
written, and multiply-accumulates. A cost model is one coefficient per feature, in cycles or
instructions, so a network's cost is the sum over its layers.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tinyhil.nas.arch import Arch, Kind, Layer, layers

Vector = npt.NDArray[np.float64]

# class of operation -> what is counted in it; the order is the order of the coefficients.
CLASSES: dict[str, tuple[str, ...]] = {
    "network": ("calls",),
    "conv": ("calls", "pixels", "outputs", "macs"),
    "pointwise": ("calls", "channels", "pixels", "inputs", "outputs", "macs"),
    "depthwise": ("calls", "channels", "rows", "inputs", "outputs", "taps", "macs"),
    "depthwise/2": ("calls", "channels", "rows", "inputs", "outputs", "taps", "macs"),
    "add": ("calls", "outputs"),
    "pool": ("calls", "channels", "inputs"),
    "dense": ("calls", "outputs", "macs"),
}
NAMES: tuple[str, ...] = tuple(f"{name} {what}" for name, counts in CLASSES.items() for what in counts)
_START = {name: NAMES.index(f"{name} {counts[0]}") for name, counts in CLASSES.items()}


def class_of(layer: Layer) -> str:
    """The class of operation that `layer` belongs to."""
    if layer.kind is Kind.DEPTHWISE and layer.stride != 1:
        return "depthwise/2"
    return str(layer.kind)


def layer_features(layer: Layer) -> Vector:
    """The features [len(NAMES)] of one layer."""
    counts = {
        "calls": 1,
        "channels": layer.cout,
        "pixels": layer.size_out.area,
        "rows": layer.size_out.height * layer.cout,
        "inputs": layer.bytes_in,
        "outputs": layer.bytes_out,
        "taps": layer.bytes_out * layer.kernel,
        "macs": layer.macs,
    }
    name = class_of(layer)
    found = np.zeros(len(NAMES))
    for offset, what in enumerate(CLASSES[name]):
        found[_START[name] + offset] = counts[what]
    return found


@lru_cache(maxsize=1 << 14)
def features(arch: Arch) -> Vector:
    """The features [len(NAMES)] of a whole network: the sum of its layers', and one call."""
    total = np.sum([layer_features(layer) for layer in layers(arch)], axis=0)
    total[0] = 1
    total.flags.writeable = False
    return np.asarray(total, np.float64)


def groups() -> tuple[slice, ...]:
    """The slice of each class of operation in a feature vector."""
    return tuple(slice(_START[name], _START[name] + len(counts)) for name, counts in CLASSES.items())


def baseline_macs(arch: Arch) -> Vector:
    """The usual proxy alone: MACs."""
    return np.array([float(sum(layer.macs for layer in layers(arch)))])


def baseline_macs_elements(arch: Arch) -> Vector:
    """MACs and elements written: the two-term model that the published tables fit to 1.5-4 %."""
    every = layers(arch)
    return np.array(
        [float(sum(layer.macs for layer in every)), float(sum(layer.bytes_out for layer in every))]
    )
