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
from tinyhil.harness.tinyengine.asm.gemm import Gemm
from tinyhil.harness.tinyengine.asm.gemm_stream import pack, recipe_of, stream_words
from tinyhil.harness.tinyengine.asm.post import Post
from tinyhil.harness.tinyengine.asm.requant import Recipe, live_bias
from tinyhil.harness.tinyengine.ctext import static_text, stream_text
from tinyhil.harness.tinyengine.fields import pack_fields
from tinyhil.harness.tinyengine.kernel import Target
from tinyhil.harness.tinyengine.work import ConvWork

SLACK = 16  # bytes behind blocks that wide loads and stores may touch


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
    compact: bool = False

    @cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """Taps of each pair."""
        kh, kw = self.work.kernel
        return pair_order(kh, kw * self.work.x.channels)

    @cached_property
    def pairs(self) -> int:
        """Words of weights per pair of channels."""
        return int(self.order.shape[0])

    @cached_property
    def _post(self) -> Post:
        return Post.common(self.recipe)

    @property
    def stream_words(self) -> int:
        """Length of the stream, known before it is packed."""
        return stream_words(self.pairs, self.work.y.channels, self.recipe)

    @property
    def _alone(self) -> int:
        """Words of a last odd channel."""
        return self.pairs + 1 + self._post.constants + (self._post.kind == "proved")

    @property
    def packed(self) -> bool:
        """Weights lie in flash as four or two bits; a pair of channels is unpacked onto the stack first."""
        return self.work.weight_bits < 8

    @property
    def _step_words(self) -> int:
        """Words of a pair of channels, as the micro-kernel reads them."""
        return 2 + self.pairs + (self._post.kind == "proved") + 2 * self._post.constants

    def _fields(self) -> npt.NDArray[np.int32]:
        """The stream with the lanes of each channel pair as fields; a last odd channel stays as it is."""
        flat = self.work.weights.reshape(self.work.weights.shape[0], -1).astype(np.int64)
        padded = np.concatenate([flat, np.zeros((flat.shape[0], 1), np.int64)], axis=1)
        lanes = padded[:, self.order]  # [channels, pairs, 2]; index -1 finds the zero
        parts: list[npt.NDArray[np.int32]] = []
        for step in range(self.work.y.channels // 2):
            at = step * self._step_words
            both = np.stack([lanes[2 * step], lanes[2 * step + 1]], axis=2)  # [pairs, lane, channel]
            parts += [self.stream[at : at + 2], pack_fields(both.reshape(-1, 4), self.work.weight_bits)]
            parts += [self.stream[at + 2 + self.pairs : at + self._step_words]]
        parts.append(self.stream[self.work.y.channels // 2 * self._step_words :])
        return np.concatenate(parts)

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
        planar = self.channel_stride != 1
        return Gemm(self.pairs, pixels, channels, self._post, planar, self.core, self.compact)

    @property
    def _stride(self) -> int:
        """What the micro-kernel wants to know of the output: the distance of its planes, or of its pixels."""
        return self.pixel_stride if self.channel_stride == 1 else self.channel_stride

    @cached_property
    def _blocks(self) -> tuple[int, ...]:
        found = {4} if max(self.sizes) >= 4 else set()
        return tuple(sorted(found | {size % 4 for size in self.sizes} - {0}, reverse=True))

    @cached_property
    def _gemms(self) -> tuple[Gemm, ...]:
        channels = self.work.y.channels
        kinds = [*([2] if channels > 1 else []), *([1] if channels % 2 else [])]
        return tuple(self._gemm(pixels, kind) for pixels in self._blocks for kind in kinds)

    @cached_property
    def block_bytes(self) -> int:
        """Scratch for the widened pixels of one call."""
        return max(max(size // 4 * 4, size % 4) for size in self.sizes) * 4 * self.pairs + SLACK

    @cached_property
    def flash(self) -> int:
        """Weights, constants and the calls."""
        words = -(-self.pairs * self.work.weight_bits // 8)
        saved = self.work.y.channels // 2 * (self.pairs - words)
        return 4 * (self.stream_words - saved) + (220 if self.packed else 100)

    @cached_property
    def shared(self) -> Mapping[str, int]:
        """Code that other layers may use too."""
        parts = {name: size for g in self._gemms for name, size in _gemm_cost(g)[3].items()}
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
            if self.packed:
                each = gemm_instructions(self._gemm(size, 2), count, 1) + 30 + 6 * self.pairs
                total += pairs * each
            else:
                total += gemm_instructions(self._gemm(size, 2), count, pairs) if pairs else 0
            total += gemm_instructions(self._gemm(size, 1), count, 1) if odd else 0
        return total

    def files(self) -> dict[str, str]:
        """The micro-kernels."""
        files = {name: text for g in self._gemms for name, text in g.files().items()}
        files |= {name: c_file(name) for name in ("th_asm.h", "th_expand.c")}
        if 4 in self._blocks:
            files |= self._expand.files(self.core)
        if self.packed:
            files["nn_low_bits.h"] = static_text("nn_low_bits.h")
        if self.core == "native":
            files |= {name: c_file(name) for name in ("th_twin.h", "th_twin.c")}
        return files

    def prototypes(self) -> list[str]:
        """Declarations of the micro-kernels."""
        return [*(g.prototype for g in self._gemms), *([self._expand.prototype] if 4 in self._blocks else [])]

    def data(self, name: str) -> str:
        """C text of `static const int32_t NAME_stream[]`."""
        return stream_text(name, self._fields() if self.packed else self.stream)

    def definition(self, name: str) -> str:
        """`static void NAME(const int8_t *x, uint32_t pixels, int8_t *y, uint32_t *blocks, const int32_t
        *stream)`."""
        lines = [
            f"static void {name}(const int8_t *x, uint32_t pixels, int8_t *y, uint32_t *blocks,",
            "                    const int32_t *stream)",
            "{",
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

    def includes(self) -> tuple[str, ...]:
        """Headers that the definition needs."""
        return ('"nn_low_bits.h"', '"th_asm.h"') if self.packed else ('"th_asm.h"',)

    def _unpacked_calls(self, size: int, y: str, end: str) -> Iterable[str]:
        """One call per pair of channels, each behind the unpacking of its weights."""
        channels, words = self.work.y.channels, self._step_words
        yield "const int32_t *packed = stream;"
        if channels > 1:
            yield f"int32_t lanes[{words}];"
            tail, bits = words - 2 - self.pairs, self.work.weight_bits
            yield f"for (int32_t c = 0; c < {channels // 2}; c++) {{"
            yield f"    packed = nn_unpack(packed, lanes, 2, {self.pairs}, {tail}, {bits});"
            out = f"{y} + c * {2 * self.channel_stride}"
            call = self._gemm(size, 2).call("blocks", "lanes", out, end, f"lanes + {words}", self._stride)
            yield f"    {call}"
            yield "}"
        if channels % 2:
            out = f"{y} + {(channels - 1) * self.channel_stride}"
            stop = f"packed + {self._alone}"
            yield self._gemm(size, 1).call("blocks", "packed", out, end, stop, self._stride)

    def _calls(self, size: int, y: str, end: str) -> Iterable[str]:
        channels = self.work.y.channels
        if self.packed:
            yield from self._unpacked_calls(size, y, end)
            return
        even = channels // 2 * 2
        split = self.stream_words - (self._alone if channels % 2 else 0)
        if even:
            stop = f"stream + {split}"
            yield self._gemm(size, 2).call("blocks", "stream", y, end, stop, self._stride)
        if channels % 2:
            start, stop = f"stream + {split}", f"stream + {self.stream_words}"
            out = f"{y} + {even * self.channel_stride}"
            yield self._gemm(size, 1).call("blocks", start, out, end, stop, self._stride)


# Chains that begin or end with the same layer ask for the same strip one after the other.
@lru_cache(maxsize=256)
def strip_of(
    work: ConvWork,
    recipe: Recipe,
    core: str,
    sizes: tuple[int, ...],
    row_stride: int,
    step: int,
    pixel_stride: int,
    channel_stride: int,
    compact: bool,
) -> Strip:
    """`Strip` of these; the same object, with what it has worked out, for the same work."""
    return Strip(work, recipe, core, sizes, row_stride, step, pixel_stride, channel_stride, compact)


def project_of(work: ConvWork, tile: int, target: Target) -> Strip | None:
    """A 1x1 over the pixels of `tile` rows, and of those that remain at the end; None if no proven
    requantisation applies."""
    recipe, (height, width), channels = recipe_of(work), (work.x.height, work.x.width), work.x.channels
    if recipe is None:
        return None
    sizes = tuple(sorted({tile * width, (height % tile or tile) * width}))
    return strip_of(work, recipe, target.core, sizes, channels, channels, work.y.channels, 1, target.compact)
