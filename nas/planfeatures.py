"""What the run time of a planned layer may depend on: counts that follow from the kernel's own loops.

A convolution runs over blocks of four pixels times pairs of channels; what remains of a row or tile goes to
a smaller micro-kernel, which is slower per multiply. Weights stream from flash once per call, so small
tiles read them often. A depthwise convolution runs over planes, one channel at a time. These counts know
widths, tiles and rests; one price each serves networks of any size. What the board's caches cannot hold is
counted apart (caches.py), from the loops and the sizes of the planned code and constants.
"""

from __future__ import annotations

from collections.abc import Mapping

from tinyhil.nas.arch import Kind, Layer
from tinyhil.nas.caches import Caches, Loop, lines_read
from tinyhil.nas.planning import PlannedLayer, family

PIXELS = 4  # of a block
_LOOPS = 250  # bytes of a layer's own loops in C
_CHANNELS = 150  # of the loop over channels, which unpacks their weights
_CALLS = 100  # the engine's estimate of the code that calls micro-kernels, which is no constants


def planned_features(layer: PlannedLayer, caches: Caches) -> Mapping[str, float]:
    """The counts of `layer` by name, on a board with `caches`; `instructions` is the engine's own count."""
    name = family(layer.kernel)
    found: dict[str, float] = {"instructions": layer.instructions, f"calls {name}": 1}
    depthwise = next((part for part in layer.parts if part.kind is Kind.DEPTHWISE), None)
    if name in _FUSED and depthwise is not None:
        _block(found, layer, depthwise)
        _block_lines(found, layer, depthwise, caches)
    elif name in ("gemm", "dense", "dense direct"):
        only = layer.parts[0]
        _gemm(found, only.size_out.area, 1, only)
        if name == "gemm":
            _gemm_lines(found, layer, caches)
    else:
        for part in layer.parts:
            found[f"{name} {part.kind} macs"] = part.macs
            if part.kind is not Kind.DEPTHWISE:  # its loops are as the engine counts them
                found[f"{name} {part.kind} inputs"] = part.bytes_in
                found[f"{name} {part.kind} outputs"] = part.bytes_out
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


def _block_lines(found: dict[str, float], layer: PlannedLayer, depthwise: Layer, caches: Caches) -> None:
    """Lines that the loops of a block read: per tile its input rows, channels, and output pixels."""
    at = layer.parts.index(depthwise)
    size = depthwise.size_out
    tile = min(_tile(layer.kernel, size.height), size.height)
    tiles = -(-size.height // tile)
    widen = _code(layer, "th_expand")
    kernel = max((loop.own for loop in _code(layer, "th_dw_")), default=0)
    code = [Loop(depthwise.cout, _CHANNELS, (Loop(tile, kernel),))]
    constants = []
    if at:
        code.append(Loop(depthwise.size_in.height / tiles, 0, (*_code(layer, "_planes_"), *widen)))
        first = layer.parts[at - 1]
        constants.append(_stream(first, depthwise.size_in.width, depthwise.size_in.height))
    if len(layer.parts) > at + 1:
        code.append(Loop(1, 0, (*_code(layer, "_pixels_"), *widen)))
        constants.append(_stream(layer.parts[at + 1], tile * size.width, tiles))
    streams = sum(loop.each / max(len(loop.inner), 1) + _CALLS for loop in constants)
    constants.append(Loop(tiles, max(layer.flash - streams - _CALLS, 0)))
    found["code lines"] = lines_read((Loop(tiles, _LOOPS, tuple(code)),), caches.code)
    found["constant lines"] = lines_read(constants, caches.constants)


def _gemm_lines(found: dict[str, float], layer: PlannedLayer, caches: Caches) -> None:
    """Lines that a convolution over a whole map reads."""
    only = layer.parts[0]
    rounds = only.size_out.area // PIXELS * only.cout / 2
    kernels = tuple(Loop(rounds, loop.own) for loop in _code(layer, "th_gemm_"))
    code = Loop(1, _LOOPS, (*kernels, *_code(layer, "th_expand")))
    found["code lines"] = lines_read((code,), caches.code)
    found["constant lines"] = lines_read((_stream(only, only.size_out.area, 1),), caches.constants)


def _code(layer: PlannedLayer, mark: str) -> tuple[Loop, ...]:
    """The files of code with `mark` in their name, each read once."""
    return tuple(Loop(1, size) for name, size in (layer.shared or {}).items() if mark in name)


def _stream(layer: Layer, pixels: int, calls: int) -> Loop:
    """The constants of `calls` calls of a convolution: those of a pair of channels are read for each block
    of pixels, first of all whole blocks, then of what remains."""
    pairs = -(-(layer.kernel**2) * layer.cin // 2)
    own = 4 * (pairs + 5)  # words of weights, and two biases and what requantises
    passes = [rounds for rounds in (pixels // PIXELS, int(pixels % PIXELS > 0)) if rounds]
    return Loop(calls, 0, tuple(Loop(rounds, own, alike=-(-layer.cout // 2)) for rounds in passes))
