"""What an architecture costs, counted from its shapes alone: no weights, no engine, no board.

`macs`, `weights` and `activation_bytes` follow the rules behind the figures that MCUNet publishes.
`tinyengine_2022_ram` and `tinyengine_2022_flash` reproduce the published table of that engine; they
serve for comparison with the literature and for a first filter. The search itself asks the engine
of this project for its plan.
"""

from __future__ import annotations

from tinyhil.nas.arch import Arch, Kind, Layer, layers

CODE_BYTES_2022 = 63 * 1024  # one constant, fitted to the published flash column


def macs(arch: Arch) -> int:
    """Multiply-accumulates of one inference."""
    return sum(layer.macs for layer in layers(arch))


def weights(arch: Arch) -> int:
    """Number of weights, biases not counted."""
    return sum(layer.weights for layer in layers(arch))


def activation_bytes(arch: Arch) -> int:
    """The literature's peak: the largest input + output of a layer; a depthwise layer inside a
    residual block holds the block's input as well."""
    return max(layer.bytes_in + layer.bytes_out + _held_by_depthwise(layer) for layer in layers(arch))


def in_place_bytes(arch: Arch) -> int:
    """Peak with depthwise layers computed in place, channel by channel."""
    return max(map(in_place, layers(arch)))


def tinyengine_2022_ram(arch: Arch) -> int:
    """Peak SRAM in bytes of TinyEngine as published in 2022, within 1 kB on eight of nine networks.

    In-place peak, the larger of the two scratch buffers, and the stem's re-ordered kernel.
    """
    every = layers(arch)
    channel = max(
        (
            2 * (layer.size_in.height + layer.kernel - 1) * (layer.size_in.width + layer.kernel - 1)
            for layer in every
            if layer.kind is Kind.DEPTHWISE
        ),
        default=0,
    )
    columns = max(
        4 * layer.kernel**2 * layer.cin for layer in every if layer.kind in (Kind.CONV, Kind.POINTWISE)
    )
    return max(map(in_place, every)) + max(channel, columns) + 2 * 27 * every[0].cout


def tinyengine_2022_flash(arch: Arch) -> int:
    """Flash in bytes of the same engine: weights, 8 bytes per output channel, one constant of code."""
    counted = [layer for layer in layers(arch) if layer.weights]
    return sum(layer.weights + 8 * layer.cout for layer in counted) + CODE_BYTES_2022


def _held_by_depthwise(layer: Layer) -> int:
    return layer.held if layer.kind is Kind.DEPTHWISE else 0


def in_place(layer: Layer) -> int:
    """Bytes of input and output of `layer`, depthwise in place, with what its block holds."""
    if layer.kind is Kind.DEPTHWISE:
        return max(layer.bytes_in, layer.bytes_out) + layer.held
    return layer.bytes_in + layer.bytes_out
