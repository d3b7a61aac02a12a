"""What a convolution by blocks consists of: its strips of pixels and bands of rows, their micro-kernels and
packed weights, and the parts of its scratch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.expand import Expand, pair_order
from tinyhil.harness.tinyengine.asm.gemm import Gemm
from tinyhil.harness.tinyengine.asm.gemm_stream import pack
from tinyhil.harness.tinyengine.asm.post import Post
from tinyhil.harness.tinyengine.asm.requant import Recipe, live_bias
from tinyhil.harness.tinyengine.work import ConvWork

_SLACK = 16  # bytes behind the blocks and the band that wide loads may touch


@dataclass(frozen=True, eq=False)
class ConvLayout:
    """One convolution, HWC to HWC. `strip`: pixels widened at a time; `band`: output rows per copy of
    padded input rows, 0 where the input is read directly."""

    work: ConvWork
    recipe: Recipe
    core: str
    strip: int
    band: int
    compact: bool = False

    @property
    def rows(self) -> int:
        """Runs of a window."""
        return self.work.kernel[0]

    @property
    def run(self) -> int:
        """Bytes of each."""
        return self.work.kernel[1] * self.work.x.channels

    @property
    def source_stride(self) -> int:
        """Bytes from one input row to the next, as the windows see it."""
        pads = self.work.pads
        return (self.work.x.width + (pads[2] + pads[3] if self.band else 0)) * self.work.x.channels

    @property
    def band_rows(self) -> int:
        """Input rows that a band needs."""
        return (self.band - 1) * self.work.strides[0] + self.rows if self.band else 0

    @property
    def linear(self) -> bool:
        """Neighbouring windows are equally far apart throughout."""
        w = self.work
        return w.strides[1] * w.x.channels * w.y.width == w.strides[0] * self.source_stride

    @property
    def chunks(self) -> list[int]:
        """Pixels of each band (all pixels where there is none)."""
        y = self.work.y
        if not self.band:
            return [y.pixels]
        return [min(self.band, y.height - r) * y.width for r in range(0, y.height, self.band)]

    @cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """Taps of each pair."""
        return pair_order(self.rows, self.run)

    @cached_property
    def stream(self) -> npt.NDArray[np.int32]:
        """Packed weights and constants."""
        w = self.work.weights.reshape(self.work.weights.shape[0], -1)
        return pack(w, live_bias(w, self.work.folded_bias), self.order, self.recipe)

    @cached_property
    def expand(self) -> Expand:
        """The widening of four pixels."""
        step = self.work.strides[1] * self.work.x.channels if self.linear else 0
        return Expand(self.rows, self.run, self.source_stride, step)

    def gemm(self, pixels: int, channels: int) -> Gemm:
        """The micro-kernel for a block of that size."""
        pairs, post = self.order.shape[0], Post.common(self.recipe)
        return Gemm(pairs, pixels, channels, post, False, self.core, self.compact)

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """Sizes of blocks that occur: 4, and what remains of a band."""
        sizes = {4} if max(self.chunks) >= 4 else set()
        sizes |= {chunk % 4 for chunk in self.chunks} - {0}
        return tuple(sorted(sizes, reverse=True))

    @cached_property
    def gemms(self) -> tuple[Gemm, ...]:
        """The micro-kernels that occur."""
        channels = self.work.y.channels
        kinds = [*([2] if channels > 1 else []), *([1] if channels % 2 else [])]
        return tuple(self.gemm(pixels, kind) for pixels in self.blocks for kind in kinds)

    @property
    def strip_bytes(self) -> int:
        """Scratch for widened pixels, which comes first,"""
        return self.strip * 4 * int(self.order.shape[0]) + _SLACK

    @property
    def table_bytes(self) -> int:
        """... for the offsets of their windows"""
        return 0 if self.linear else 4 * self.strip

    @property
    def copy_bytes(self) -> int:
        """... and for the band of padded rows."""
        return (self.band_rows * self.source_stride + _SLACK + 3) // 4 * 4 if self.band else 0

    def strip_sizes(self, chunk: int) -> list[int]:
        """How many pixels each strip of a chunk has; the last 1 to 3 stand alone."""
        blocks, rest = divmod(chunk, 4)
        whole, part = divmod(4 * blocks, self.strip)
        return [*[self.strip] * whole, *([part] if part else []), *([rest] if rest else [])]
