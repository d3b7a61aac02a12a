"""Architectures as text: one frozen type, parsed and printed without loss.

    r176 w0.5 | s16 k3e1:8 | k7e3:16/2 k3e5 k7e5 k5e4 | ... | k7e5:160 | fc1000

The first part is the input: `r` its side in pixels, or height x width as in `r49x10`; `c` its channels
(3 if absent), `w` the width multiplier it was drawn with (a label: channels are always written out).
The second begins with the stem, a 3x3 convolution `s<channels>[/stride]` (stride 2 if absent). Then
inverted-residual blocks, one part per stage: `k<kernel>e<expansion>[:<channels>][/<stride>]`; absent
channels are those of the block before, an absent stride is 1. A block whose input and output have the
same shape adds its input (the family of MobileNetV2, ProxylessNAS and MCUNet has no other rule). The last
part is the head: `m<channels>` an optional pointwise feature mix, `fc<classes>` the classifier behind the
global average; or, instead of it, `grid<channels>`: a pointwise layer whose map is the output, as a
detector's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NoReturn

from tinyhil.errors import UsageError
from tinyhil.harness.model.graph import Pads
from tinyhil.harness.model.shapes import same_pads
from tinyhil.nas.size import POINT, Size, parse_size, strided

MAX_CHANNELS = 16384
MAX_SIDE = 1024
MAX_BLOCKS = 200


class Kind(StrEnum):
    """What a layer computes."""

    CONV = "conv"
    DEPTHWISE = "depthwise"
    POINTWISE = "pointwise"
    ADD = "add"
    POOL = "pool"
    DENSE = "dense"


@dataclass(frozen=True)
class Block:
    """An inverted residual: expand (1x1, unless `expansion` is 1), depthwise, project (1x1, linear)."""

    kernel: int
    expansion: int
    out: int
    stride: int = 1


@dataclass(frozen=True)
class Arch:
    """One network of the family. `stages[0]` stands beside the stem and may be empty."""

    resolution: Size
    stem: int
    stages: tuple[tuple[Block, ...], ...]
    classes: int
    mix: int | None = None
    width: float | None = None
    channels: int = 3
    stem_stride: int = 2
    grid: bool = False  # `classes` are then the channels of the map that is the output

    def __post_init__(self) -> None:
        _check(self)

    def __str__(self) -> str:
        return format_arch(self)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in order."""
        return tuple(block for stage in self.stages for block in stage)


@dataclass(frozen=True)
class Layer:
    """One layer with its geometry, from a map of `size_in` to one of `size_out`.

    Kernels and strides are square, but a pool covers its whole map: its `kernel` is the map's height.
    `block` is the index into `Arch.blocks`, -1 outside of them. `residual` says that the block adds
    its input, which `held` (bytes in int8) must therefore survive until the addition.
    """

    name: str
    kind: Kind
    kernel: int
    stride: int
    cin: int
    cout: int
    size_in: Size
    size_out: Size
    relu6: bool
    block: int = -1
    residual: bool = False
    held: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        match self.kind:
            case Kind.CONV | Kind.POINTWISE | Kind.DENSE:
                return self.size_out.area * self.kernel**2 * self.cin * self.cout
            case Kind.DEPTHWISE:
                return self.size_out.area * self.kernel**2 * self.cout
            case _:
                return 0

    @property
    def weights(self) -> int:
        """Number of weights, biases not counted."""
        match self.kind:
            case Kind.CONV | Kind.POINTWISE | Kind.DENSE:
                return self.kernel**2 * self.cin * self.cout
            case Kind.DEPTHWISE:
                return self.kernel**2 * self.cout
            case _:
                return 0

    @property
    def bytes_in(self) -> int:
        """Bytes of the int8 input map."""
        return self.size_in.area * self.cin

    @property
    def bytes_out(self) -> int:
        """Bytes of the int8 output map."""
        return self.size_out.area * self.cout

    @property
    def pads(self) -> Pads:
        """(top, bottom, left, right) of TFLite's SAME padding."""
        size, kernel, stride = self.size_in, self.kernel, self.stride
        return same_pads((size.height, size.width), (kernel, kernel), (stride, stride))


@lru_cache(maxsize=4096)  # several questions are asked of each network of a search
def layers(arch: Arch) -> tuple[Layer, ...]:
    """The layers of `arch` in execution order: the one home of its geometry."""
    return tuple(_layers(arch))


def _layers(arch: Arch) -> Iterator[Layer]:
    size = strided(arch.resolution, arch.stem_stride)
    yield Layer(
        "stem", Kind.CONV, 3, arch.stem_stride, arch.channels, arch.stem, arch.resolution, size, relu6=True
    )
    cin = arch.stem
    for index, block in enumerate(arch.blocks):
        name, mid, size_out = f"b{index}", cin * block.expansion, strided(size, block.stride)
        residual = block.stride == 1 and cin == block.out
        held = size.area * cin if residual else 0
        if block.expansion != 1:
            yield Layer(
                f"{name}.expand", Kind.POINTWISE, 1, 1, cin, mid, size, size, True, index, residual, held
            )
        yield Layer(
            f"{name}.dw", Kind.DEPTHWISE, block.kernel, block.stride, mid, mid, size, size_out,
            True, index, residual, held,
        )  # fmt: skip
        yield Layer(
            f"{name}.project", Kind.POINTWISE, 1, 1, mid, block.out, size_out, size_out,
            False, index, residual, held,
        )  # fmt: skip
        if residual:
            yield Layer(f"{name}.add", Kind.ADD, 1, 1, cin, cin, size, size, False, index, residual, held)
        cin, size = block.out, size_out
    if arch.mix is not None:
        yield Layer("mix", Kind.POINTWISE, 1, 1, cin, arch.mix, size, size, relu6=True)
        cin = arch.mix
    if arch.grid:
        yield Layer("head", Kind.POINTWISE, 1, 1, cin, arch.classes, size, size, relu6=False)
        return
    yield Layer("pool", Kind.POOL, size.height, 1, cin, cin, size, POINT, relu6=False)
    yield Layer("fc", Kind.DENSE, 1, 1, cin, arch.classes, POINT, POINT, relu6=False)


def format_arch(arch: Arch) -> str:
    """The canonical text of `arch`; `parse(format_arch(a)) == a`."""
    head = [f"r{arch.resolution}"]
    head += [f"c{arch.channels}"] if arch.channels != 3 else []
    head += [f"w{arch.width!r}"] if arch.width is not None else []
    parts = [head]
    cin = arch.stem
    words = [f"s{arch.stem}" + (f"/{arch.stem_stride}" if arch.stem_stride != 2 else "")]
    for stage in arch.stages:
        for block in stage:
            word = f"k{block.kernel}e{block.expansion}"
            word += f":{block.out}" if block.out != cin else ""
            words.append(word + (f"/{block.stride}" if block.stride != 1 else ""))
            cin = block.out
        parts.append(words)
        words = []
    tail = [f"m{arch.mix}"] if arch.mix is not None else []
    parts.append([*tail, f"{'grid' if arch.grid else 'fc'}{arch.classes}"])
    return " | ".join(" ".join(part) for part in parts)


_INPUT = re.compile(r"(?P<key>[rcw])(?P<value>[0-9]{1,5}(?:[.x][0-9]{1,20})?)")
_STEM = re.compile(r"s(?P<out>[0-9]{1,5})(?:/(?P<stride>[0-9]))?")
_BLOCK = re.compile(
    r"k(?P<kernel>[0-9]{1,2})e(?P<expansion>[0-9]{1,2})(?::(?P<out>[0-9]{1,5}))?(?:/(?P<stride>[0-9]))?"
)
_HEAD = re.compile(r"(?P<key>m|fc|grid)(?P<value>[0-9]{1,5})")
_FORM = (
    "r<side> or r<height>x<width> [c<channels>] [w<width>] | s<channels> k<k>e<e>[:<channels>][/<stride>] … "
    "| … | [m<c>] fc<n>"
)


def parse(text: str) -> Arch:
    """The architecture that `text` names; UsageError says which word is wrong and what was expected."""
    parts = [part.split() for part in text.split("|")]
    if len(parts) < 3:
        _wrong(text, "it needs an input, a stem and a classifier, each its own part between `|`")
    values = _keyed(parts[0], _INPUT, text, "the input part")
    if "r" not in values:
        _wrong(text, "the first part must give the resolution, for example r96")
    stem = _STEM.fullmatch(parts[1][0]) if parts[1] else None
    if stem is None:
        _wrong(text, "the second part must begin with the stem, for example s16")
    cin = int(stem["out"])
    stages = []
    for number, words in enumerate([parts[1][1:], *parts[2:-1]]):
        stage = []
        for word in words:
            found = _BLOCK.fullmatch(word)
            if found is None:
                _wrong(text, f"{word!r} in stage {number} is not a block such as k5e4, k5e4:24 or k5e4:24/2")
            cin = int(found["out"] or cin)
            stage.append(Block(int(found["kernel"]), int(found["expansion"]), cin, int(found["stride"] or 1)))
        if number and not stage:
            _wrong(text, f"stage {number} has no block")
        stages.append(tuple(stage))
    head = _keyed(parts[-1], _HEAD, text, "the head")
    if ("fc" in head) == ("grid" in head):
        _wrong(text, "the last part must end in the classifier, for example fc10, or in grid<channels>")
    return Arch(
        resolution=parse_size(values["r"]),
        stem=int(stem["out"]),
        stages=tuple(stages),
        classes=_whole(head.get("fc") or head["grid"], text),
        mix=_whole(head["m"], text) if "m" in head else None,
        width=_real(values["w"], text) if "w" in values else None,
        channels=_whole(values.get("c", "3"), text),
        stem_stride=int(stem["stride"] or 2),
        grid="grid" in head,
    )


def _keyed(words: list[str], pattern: re.Pattern[str], text: str, where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        match = pattern.fullmatch(word)
        if match is None or match["key"] in found:
            _wrong(text, f"{word!r} is not known, or stands twice, in {where}")
        found[match["key"]] = match["value"]
    return found


def _whole(value: str, text: str) -> int:
    if not value.isdigit():
        _wrong(text, f"{value} must be a whole number")
    return int(value)


def _real(value: str, text: str) -> float:
    if "x" in value:
        _wrong(text, f"{value} must be one number")
    return float(value)


def _wrong(text: str, why: str) -> NoReturn:
    short = text if len(text) <= 200 else text[:200] + "…"
    raise UsageError(f"architecture {short!r}: {why}. The form is: {_FORM}")


def _check(arch: Arch) -> None:
    """UsageError where `arch` is outside of the family or of sane sizes."""

    def need(good: bool, what: str) -> None:
        if not good:
            raise UsageError(f"architecture: {what}")

    size = arch.resolution
    need(
        min(size.height, size.width) >= 1 and size.longer <= MAX_SIDE,
        f"resolution {size} is not in 1..{MAX_SIDE} on each side",
    )
    need(arch.stem_stride in (1, 2), f"stem stride {arch.stem_stride} is not 1 or 2")
    need(arch.width is None or 0.01 <= arch.width <= 10, f"width {arch.width} is not in 0.01..10")
    need(len(arch.stages) >= 1, "there is no stage beside the stem (it may be empty)")
    need(all(arch.stages[1:]), "a stage has no block")
    need(len(arch.blocks) <= MAX_BLOCKS, f"{len(arch.blocks)} blocks are more than {MAX_BLOCKS}")
    cin = arch.stem
    for block in arch.blocks:
        need(
            block.kernel % 2 == 1 and block.kernel <= 31,
            f"kernel {block.kernel} is not an odd number up to 31",
        )
        need(block.stride in (1, 2), f"stride {block.stride} is not 1 or 2")
        need(1 <= block.expansion <= 16, f"expansion {block.expansion} is not in 1..16")
        need(cin * block.expansion <= MAX_CHANNELS, f"{cin}*{block.expansion} channels are too many")
        cin = block.out
    counts = [arch.channels, arch.stem, arch.classes, *(block.out for block in arch.blocks)]
    counts += [arch.mix] if arch.mix is not None else []
    need(
        all(1 <= c <= MAX_CHANNELS for c in counts), f"channel counts must be in 1..{MAX_CHANNELS}: {counts}"
    )
