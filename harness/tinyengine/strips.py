"""A convolution over neighbouring pixels, for use inside fused layers.

Windows lie a constant step apart (a row of any convolution, or any pixels of a 1x1), and the outputs go
where the next stage wants them: `pixel_stride` bytes apart, channels `channel_stride` apart. The work
itself is that of the shared micro-kernels: windows are widened into blocks, then multiplied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.emit import c_file
from tinyhil.harness.tinyengine.asm.expand import Expand, pair_order
from tinyhil.harness.tinyengine.asm.gemm import Gemm, lanes_fit, pack
from tinyhil.harness.tinyengine.asm.post import Post
from tinyhil.harness.tinyengine.asm.requant import Recipe, choose, live_bias, reach_of
from tinyhil.harness.tinyengine.ctext import c_array
from tinyhil.harness.tinyengine.work import ConvWork

SLACK = 16  # bytes behind blocks that wide loads and stores may touch


@lru_cache(maxsize=1024)
def recipe_of(work: ConvWork) -> Recipe | None:
    """The proven requantisation of a convolution, None where the micro-kernels do not apply."""
    flat = work.weights.reshape(work.weights.shape[0], -1)
    if work.dilations != (1, 1) or not lanes_fit(flat):
        return None
    return choose(work.requant, reach_of(flat, work.folded_bias))


@cache
def _gemm_cost(gemm: Gemm) -> tuple[int, int, int, Mapping[str, int]]:
    """Instructions (once, per channel step, per block of a step), and bytes of code by file."""
    fixed = gemm.instructions(0, 0)
    step = gemm.instructions(0, 1) - fixed
    return fixed, step, gemm.instructions(1, 1) - fixed - step, gemm.shared


def gemm_instructions(gemm: Gemm, blocks: int, steps: int) -> int:
    """Of a micro-kernel over `steps` channel pairs and `blocks` blocks each."""
    fixed, step, block, _ = _gemm_cost(gemm)
    return fixed + steps * (step + blocks * block)


@dataclass(frozen=True, eq=False)
class Strip:
    """`sizes`: every number of pixels that one call may be asked for; `row_stride`: bytes between the
    rows of a window; `step`: bytes between windows."""

    work: ConvWork
    recipe: Recipe
    core: str
    sizes: tuple[int, ...]
    row_stride: int
    step: int
    pixel_stride: int
    channel_stride: int

    @cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """Taps of each pair."""
        kh, kw = self.work.kernel
        return pair_order(kh, kw * self.work.x.channels)

    @property
    def pairs(self) -> int:
        """Words of weights per pair of channels."""
        return int(self.order.shape[0])

    @property
    def stream_words(self) -> int:
        """Length of the stream, known before it is packed."""
        post = Post.common(self.recipe)
        pairs, odd = divmod(self.work.y.channels, 2)
        proved = post.kind == "proved"
        return pairs * (2 + self.pairs + proved + 2 * post.constants) + odd * self._alone

    @property
    def _alone(self) -> int:
        """Words of a last odd channel."""
        post = Post.common(self.recipe)
        return self.pairs + 1 + post.constants + (post.kind == "proved")

    @cached_property
    def stream(self) -> npt.NDArray[np.int32]:
        """Packed weights and constants."""
        flat = self.work.weights.reshape(self.work.weights.shape[0], -1)
        return pack(flat, live_bias(flat, self.work.folded_bias), self.order, self.recipe)

    @cached_property
    def _expand(self) -> Expand:
        kh, kw = self.work.kernel
        return Expand(kh, kw * self.work.x.channels, self.row_stride, self.step)

    def _gemm(self, pixels: int, channels: int) -> Gemm:
        return Gemm(
            self.pairs,
            pixels,
            channels,
            Post.common(self.recipe),
            self.pixel_stride,
            self.channel_stride,
            self.core,
        )

    @cached_property
    def _blocks(self) -> tuple[int, ...]:
        found = {4} if max(self.sizes) >= 4 else set()
        return tuple(sorted(found | {size % 4 for size in self.sizes} - {0}, reverse=True))

    @cached_property
    def _gemms(self) -> tuple[Gemm, ...]:
        channels = self.work.y.channels
        kinds = [*([2] if channels > 1 else []), *([1] if channels % 2 else [])]
        return tuple(self._gemm(pixels, kind) for pixels in self._blocks for kind in kinds)

    @property
    def block_bytes(self) -> int:
        """Scratch for the widened pixels of one call."""
        return max(max(size // 4 * 4, size % 4) for size in self.sizes) * 4 * self.pairs + SLACK

    @property
    def flash(self) -> int:
        """Weights, constants and the calls."""
        return 4 * self.stream_words + 100

    @property
    def shared(self) -> Mapping[str, int]:
        """Code that other layers may use too."""
        parts = {name: size for g in self._gemms for name, size in g.shared.items()}
        if 4 in self._blocks:
            parts |= self._expand.shared
        return {**parts, "th_expand.c": 200}

    def instructions(self, pixels: int) -> int:
        """One call for `pixels` pixels."""
        blocks, rest = divmod(pixels, 4)
        pairs, odd = divmod(self.work.y.channels, 2)
        kh, kw = self.work.kernel
        total = 20
        for size, count in ((4, blocks), (rest, 1)):
            if not size or not count:
                continue
            values = size * kh * kw * self.work.x.channels
            total += 10 + (self._expand.instructions(count) if size == 4 else 5 * values)
            total += gemm_instructions(self._gemm(size, 2), count, pairs) if pairs else 0
            total += gemm_instructions(self._gemm(size, 1), count, 1) if odd else 0
        return total

    def files(self) -> dict[str, str]:
        """The micro-kernels."""
        files = {name: text for g in self._gemms for name, text in g.files().items()}
        files |= {name: c_file(name) for name in ("th_asm.h", "th_expand.c")}
        if 4 in self._blocks:
            files |= self._expand.files(self.core)
        if self.core == "native":
            files |= {name: c_file(name) for name in ("th_twin.h", "th_twin.c")}
        return files

    def prototypes(self) -> list[str]:
        """Declarations of the micro-kernels."""
        return [*(g.prototype for g in self._gemms), *([self._expand.prototype] if 4 in self._blocks else [])]

    def definition(self, name: str) -> str:
        """`static void NAME(const int8_t *x, uint32_t pixels, int8_t *y, uint32_t *blocks)` and its data."""
        lines = [
            f"static const int32_t {name}_stream[{self.stream.size}] = {{",
            c_array(self.stream),
            "};",
            "",
            f"static void {name}(const int8_t *x, uint32_t pixels, int8_t *y, uint32_t *blocks)",
            "{",
            f"    const int32_t *const stream = {name}_stream;",
        ]
        if 4 in self._blocks:
            lines += [
                "    const uint32_t fours = pixels & ~3u;",
                f"    const uint32_t *const end = blocks + fours * {self.pairs}u;",
                *(["    if (fours != 0) {"] if min(self.sizes) < 4 else ["    {"]),
                f"        {self._expand.name}(x, blocks, end);",
                *(f"        {call}" for call in self._calls(4, "y", "end")),
                "    }",
            ]
            if len(self._blocks) > 1:
                lines += [f"    x += fours * {self.step}u;", f"    y += fours * {self.pixel_stride}u;"]
        for size in self._blocks:
            if size < 4:
                lines += [f"    if ((pixels & 3u) == {size}) {{", *self._rest(size), "    }"]
        return "\n".join([*lines, "}", ""])

    def _rest(self, size: int) -> Iterable[str]:
        kh, kw = self.work.kernel
        windows = ", ".join(f"x + {i * self.step}" for i in range(size))
        yield f"        const int8_t *const rest[{size}] = {{{windows}}};"
        run = kw * self.work.x.channels
        yield f"        th_expand(blocks, rest, {size}, {kh}, {run}, {self.row_stride});"
        for call in self._calls(size, "y", f"blocks + {size * self.pairs}"):
            yield f"        {call}"

    def _calls(self, size: int, y: str, end: str) -> Iterable[str]:
        channels = self.work.y.channels
        even = channels // 2 * 2
        split = self.stream_words - (self._alone if channels % 2 else 0)
        if even:
            yield f"{self._gemm(size, 2).name}(blocks, stream, {y}, {end}, stream + {split});"
        if channels % 2:
            yield (
                f"{self._gemm(size, 1).name}(blocks, stream + {split}, {y} + {even * self.channel_stride}, "
                f"{end}, stream + {self.stream_words});"
            )
