"""What the run time of a planned layer may depend on: counts that follow from the kernel's own loops.

A convolution runs over blocks of four pixels times pairs of channels; what remains of a row or tile goes to
a smaller micro-kernel, which is slower per multiply. Weights stream from flash once per call, so small
tiles read them often. A depthwise convolution runs over planes, one channel at a time. These counts know
widths, tiles and rests; one price each serves networks of any size.
"""

from __future__ import annotations

from collections.abc import Mapping

from tinyhil.nas.arch import Kind, Layer
from tinyhil.nas.planning import PlannedLayer, family

PIXELS = 4  # of a block


def planned_features(layer: PlannedLayer) -> Mapping[str, float]:
    """The counts of `layer` by name; `instructions` is the engine's own count."""
    name = family(layer.kernel)
    found: dict[str, float] = {"instructions": layer.instructions, f"calls {name}": 1}
    depthwise = next((part for part in layer.parts if part.kind is Kind.DEPTHWISE), None)
    if name in _FUSED and depthwise is not None:
        _block(found, layer, depthwise)
    elif name in ("gemm", "dense", "dense direct"):
        only = layer.parts[0]
        _gemm(found, only.size_out.area, 1, only)
    else:
        for part in layer.parts:
            for what, count in (("macs", part.macs), ("inputs", part.bytes_in), ("outputs", part.bytes_out)):
                found[f"{name} {part.kind} {what}"] = count
    return found


_FUSED = frozenset(
    before + "dw" + after for before in ("", "conv+") for after in ("", "+1x1", "+1x1+add")
)  # families of asm kernels around a depthwise convolution


def _block(found: dict[str, float], layer: PlannedLayer, depthwise: Layer) -> None:
    """[convolution ->] depthwise [-> 1x1 [-> add]], some output rows at a time."""
    at = layer.parts.index(depthwise)
    size, channels, kernel = depthwise.size_out, depthwise.cout, depthwise.kernel
    tile = min(_tile(layer.kernel, size.height), size.height)
    whole, rest = divmod(size.height, tile)
    tiles = whole + (rest > 0)
    found["tiles"] = tiles
    found["channel tiles"] = channels * tiles
    found["depthwise outputs"] = channels * size.area
    found["depthwise rows"] = channels * size.height
    found["depthwise macs"] = depthwise.macs
    found["depthwise strided macs"] = depthwise.macs if depthwise.stride != 1 else 0
    found["depthwise odd"] = channels * size.height * kernel**2 if size.width % 2 else 0
    found["depthwise weights"] = channels * kernel * ((kernel + 2) // 2) * tiles
    if at:
        _gemm(found, depthwise.size_in.width, depthwise.size_in.height, layer.parts[at - 1])
        found["rows filled"] = depthwise.size_in.height
    else:
        found["sorted"] = depthwise.bytes_in
    if len(layer.parts) > at + 1:
        project = layer.parts[at + 1]
        _gemm(found, tile * size.width, whole, project)
        if rest:
            _gemm(found, rest * size.width, 1, project)
    if layer.parts[-1].kind is Kind.ADD:
        found["added"] = layer.parts[-1].bytes_out


def _gemm(found: dict[str, float], pixels: int, calls: int, layer: Layer) -> None:
    """`calls` calls of a convolution for `pixels` pixels each."""
    taps = layer.kernel**2 * layer.cin
    blocks, rest = divmod(pixels, PIXELS)
    counts = {
        "block macs": blocks * PIXELS * taps * layer.cout,
        "blocks": blocks * layer.cout,
        "weights": taps * layer.cout,
        "widened": pixels * taps,
        "stored": pixels * layer.cout,
    }
    if rest:
        counts |= {f"rest {rest} macs": rest * taps * layer.cout, "rests": layer.cout}
    for name, count in counts.items():
        found[name] = found.get(name, 0) + calls * count


def _tile(kernel: str, whole: int) -> int:
    size = kernel.rpartition(" x")[2]
    return int(size) if size.isdigit() else whole
