"""What TinyEngine would do without one of its ideas: real alternatives, each a small one.

`Options.disabled` names them; each stays exact.

    codegen     convolutions are interpreted: shapes and constants are read at run time
    adaptive    scratch is the least that a kernel can do with, whatever the rest of the arena leaves free
    unrolling   loops over inputs and taps stay loops; code is shared by layers of any size
    tiling      one output pixel at a time, no block of pixels in registers; nothing is streamed either
    streaming   one operator per layer, and no layer by rows
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from tinyhil.harness.tinyengine.asm.gemm_stream import recipe_of
from tinyhil.harness.tinyengine.block import BlockCandidate
from tinyhil.harness.tinyengine.ctext import render, safe_comment, static_text
from tinyhil.harness.tinyengine.depthwise import DepthwiseCandidate
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Kernel, Target
from tinyhil.harness.tinyengine.low_bits import rows_of
from tinyhil.harness.tinyengine.overlap import pixel_gap
from tinyhil.harness.tinyengine.planes import PlainPlanes
from tinyhil.harness.tinyengine.work import ConvWork, DepthwiseWork, Work

SWITCHES = ("codegen", "adaptive", "unrolling", "tiling", "streaming")


@dataclass(frozen=True, eq=False)
class GenericCandidate:
    """A convolution as an interpreter would run it."""

    work: ConvWork | DepthwiseWork
    kernel: str = "generic"
    scratch: int = 0
    shared: Mapping[str, int] = field(default_factory=lambda: {"nn_generic.c": 700})

    @property
    def flash(self) -> int:
        """Weights and constants."""
        return int(self.work.weights.size) + 9 * self.work.y.channels + 140

    @property
    def instructions(self) -> int:
        """A guess: nothing else is to be chosen from."""
        return 12 * self.work.macs + 60 * self.work.y.nbytes

    @property
    def gaps(self) -> tuple[int | None, ...]:
        """Pixel by pixel."""
        return (pixel_gap(self.work),)

    def emit(self, symbol: str) -> Code:
        """A table, and a call of the kernel that all layers share."""
        w, r = self.work, self.work.requant
        depthwise = isinstance(w, DepthwiseWork)
        numbers = (
            w.x.height, w.x.width, w.x.channels, w.y.height, w.y.width, w.y.channels, *w.kernel,
            *w.strides, *w.dilations, w.pads[0], w.pads[2], w.x.zero_point, r.zero_point, r.low, r.high,
            w.multiplier if isinstance(w, DepthwiseWork) else 1,
        )  # fmt: skip
        kh, kw = w.kernel
        text = render(
            "generic.c.j2",
            symbol=symbol,
            w=w,
            numbers=numbers,
            what="depthwise" if depthwise else "conv",
            comment=safe_comment(f"Interpreted: {kh}x{kw}, {w.x.channels} -> {w.y.channels} channels."),
        )
        files = {name: static_text(name) for name in ("nn_generic.h", "nn_generic.c", "nn_math.h")}
        return Code(text, files, ('"nn_generic.h"',))


@dataclass(frozen=True)
class Generic:
    """Convolutions, depthwise ones and fully-connected layers, interpreted; all others as they were."""

    source: Kernel
    name: str = "generic"

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """One per layer."""
        if len(chain) == 1 and isinstance(chain[0], ConvWork | DepthwiseWork):
            return [GenericCandidate(chain[0])]
        return self.source.candidates(chain, target)


@dataclass(frozen=True)
class OnePixel:
    """The micro-kernel of convolutions, one pixel at a time."""

    name: str = "one-pixel"

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """One per convolution or fully-connected layer that the micro-kernel can do."""
        if len(chain) != 1 or not (target.dsp or target.core == "native"):
            return
        work = chain[0]
        if isinstance(work, ConvWork) and recipe_of(work) is not None:
            yield rows_of(work, target, 1)


@dataclass(frozen=True)
class Least:
    """Of each of another kernel's layers the candidate with the least scratch."""

    source: Kernel

    @property
    def name(self) -> str:
        """Of the other kernel."""
        return self.source.name

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """One, where the other kernel has any."""
        found = list(self.source.candidates(chain, target))
        return [min(found, key=lambda c: (c.scratch, c.instructions))] if found else []


@dataclass(frozen=True)
class Looped:
    """Blocks whose depthwise convolution has loops over its taps."""

    source: Kernel

    @property
    def name(self) -> str:
        """Of the other kernel."""
        return self.source.name

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """As many as before; planes that the plain loops lay out differently are laid out so."""
        for candidate in self.source.candidates(chain, target):
            if not isinstance(candidate, BlockCandidate):
                yield candidate
                continue
            planes = PlainPlanes(candidate.parts.depthwise, candidate.tile, target.core)
            stages = replace(candidate.stages, planes=planes)
            if stages.widen is not None:
                widen = replace(stages.widen, channel_stride=planes.plane_bytes)
                stages = replace(stages, widen=widen)
            yield replace(candidate, stages=stages)


@dataclass(frozen=True)
class Whole:
    """Blocks of a single operator with all its rows at once."""

    source: Kernel

    @property
    def name(self) -> str:
        """Of the other kernel."""
        return self.source.name

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """Those that stream nothing."""
        for candidate in self.source.candidates(chain, target) if len(chain) == 1 else ():
            if isinstance(candidate, BlockCandidate):
                whole = candidate.tile == candidate.parts.depthwise.y.height
            else:
                whole = not isinstance(candidate, DepthwiseCandidate) or not candidate.staged
            if whole:
                yield candidate


def without(kernels: Sequence[Kernel], off: Set[str]) -> Sequence[Kernel]:
    """`kernels`, or what stands for them where something of SWITCHES is turned off."""
    if "codegen" in off:
        return [Generic(kernel) for kernel in kernels if kernel.name == "portable"]
    found = list(kernels)
    if "tiling" in off:
        found = [OnePixel(), *(k for k in found if k.name in ("linear-add", "portable"))]
    if "streaming" in off:
        found = [Whole(k) for k in found]
    if "unrolling" in off:
        found = [Looped(k) for k in found if k.name != "depthwise"]
    if "adaptive" in off:
        found = [Least(k) for k in found]
    return found
