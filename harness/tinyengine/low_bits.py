"""Convolutions and fully-connected layers with weights of four or two bits.

Flash holds two or four weights in a byte. A strip of pixels is widened into scratch; then each pair of
channels is unpacked onto the stack and multiplied with the whole strip, so that unpacking is paid once
per strip. A 1x1 convolution takes as many pixels as fit; any other takes a row of outputs at a time.
The arithmetic is that of eight-bit weights, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tinyhil.harness.tinyengine.asm.gemm_stream import recipe_of
from tinyhil.harness.tinyengine.asm.requant import Recipe
from tinyhil.harness.tinyengine.ctext import safe_comment
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.overlap import row_gap
from tinyhil.harness.tinyengine.strips import SLACK, Strip
from tinyhil.harness.tinyengine.work import ConvWork, Work

_BUDGETS = (1024, 4096, 16384)  # bytes of widened pixels that candidates offer


@dataclass(frozen=True, eq=False)
class StripCandidate:
    """A 1x1 convolution, `pixels` at a time."""

    work: ConvWork
    strip: Strip
    pixels: int

    @property
    def kernel(self) -> str:
        """With the width of its weights."""
        return f"int{self.work.weight_bits} gemm"

    @property
    def scratch(self) -> int:
        """The widened pixels."""
        return self.strip.block_bytes

    @property
    def flash(self) -> int:
        """Weights, constants, loops."""
        return self.strip.flash + 60

    @property
    def shared(self) -> Mapping[str, int]:
        """The micro-kernels."""
        return self.strip.shared

    @cached_property
    def instructions(self) -> int:
        """Counted on the micro-kernels; unpacking by estimate."""
        whole, rest = divmod(self.work.y.pixels, self.pixels)
        return (
            20 + whole * self.strip.instructions(self.pixels) + (self.strip.instructions(rest) if rest else 0)
        )

    @property
    def gaps(self) -> tuple[int | None, ...]:
        """Blocks of four are widened before they are written; the last few pixels come after the others."""
        more = self.work.y.channels - self.work.x.channels
        boundary = (self.work.y.pixels - 1) // 4 * 4
        return (max(0, boundary * more),)

    def emit(self, symbol: str) -> Code:
        """A loop over strips."""
        w = self.work
        count = f"{w.y.pixels} - at < {self.pixels} ? {w.y.pixels} - at : {self.pixels}"
        body = [
            f"    for (int32_t at = 0; at < {w.y.pixels}; at += {self.pixels}) {{",
            f"        const int32_t count = {count};",
            f"        const int8_t *const from = x0 + at * {w.x.channels};",
            f"        int8_t *const to = y + at * {w.y.channels};",
            f"        {symbol}_strip(from, (uint32_t)count, to, blocks, {symbol}_strip_stream);",
            "    }",
        ]
        return _code(symbol, w, self.strip, body)


@dataclass(frozen=True, eq=False)
class RowCandidate:
    """Any convolution, by rows of outputs, `pixels` of a row at a time: all or one. Padded rows are copied
    into a band first, so that no window needs a test."""

    work: ConvWork
    strip: Strip
    pixels: int

    @property
    def kernel(self) -> str:
        """With the width of its weights."""
        return f"int{self.work.weight_bits} rows"

    @property
    def _band_bytes(self) -> int:
        return self.work.kernel[0] * self.strip.row_stride + SLACK if any(self.work.pads) else 0

    @property
    def _band_at(self) -> int:
        return (self.strip.block_bytes + 3) // 4 * 4

    @property
    def scratch(self) -> int:
        """The widened pixels, and the band."""
        return self._band_at + self._band_bytes

    @property
    def flash(self) -> int:
        """Weights, constants, loops."""
        return self.strip.flash + (160 if self._band_bytes else 60)

    @property
    def shared(self) -> Mapping[str, int]:
        """The micro-kernels."""
        return self.strip.shared

    @cached_property
    def instructions(self) -> int:
        """Counted on the micro-kernels; unpacking and copying by estimate."""
        copy = self.work.kernel[0] * (40 + self.strip.row_stride * 3 // 4) if self._band_bytes else 0
        times = self.work.y.width // self.pixels
        return 20 + self.work.y.height * (15 + copy + times * (5 + self.strip.instructions(self.pixels)))

    @property
    def gaps(self) -> tuple[int | None, ...]:
        """A row of outputs is computed from whole input rows before the next one."""
        return (row_gap(self.work),)

    def emit(self, symbol: str) -> Code:
        """A loop over rows."""
        w = self.work
        row, out = w.x.width * w.x.channels, w.y.width * w.y.channels
        source, lines = f"x0 + row * {w.strides[0] * row}", []
        if self._band_bytes:
            source = "band"
            left, right = (p * w.x.channels for p in w.pads[2:])
            stride, zero = self.strip.row_stride, w.x.zero_point
            lines = [
                f"        for (int32_t ky = 0; ky < {w.kernel[0]}; ky++) {{",
                f"            const int32_t in = row * {w.strides[0]} + ky - {w.pads[0]};",
                f"            int8_t *const line = band + ky * {stride};",
                f"            if (in < 0 || in >= {w.x.height}) {{",
                f"                memset(line, {zero}, {stride});",
                "                continue;",
                "            }",
                *([f"            memset(line, {zero}, {left});"] if left else []),
                f"            memcpy(line + {left}, x0 + in * {row}, {row});",
                *([f"            memset(line + {left + row}, {zero}, {right});"] if right else []),
                "        }",
            ]
        body = [
            *([f"    int8_t *const band = (int8_t *)scratch + {self._band_at};"] if lines else []),
            f"    for (int32_t row = 0; row < {w.y.height}; row++) {{",
            *lines,
            *self._calls(symbol, source, f"y + row * {out}"),
            "    }",
        ]
        return _code(symbol, w, self.strip, body)

    def _calls(self, symbol: str, source: str, to: str) -> list[str]:
        w, stream = self.work, f"blocks, {symbol}_strip_stream"
        if self.pixels == w.y.width:
            return [f"        {symbol}_strip({source}, {self.pixels}, {to}, {stream});"]
        step = w.strides[1] * w.x.channels
        return [
            f"        for (int32_t at = 0; at < {w.y.width}; at++) {{",
            f"            {symbol}_strip({source} + at * {step}, 1, {to} + at * {w.y.channels}, {stream});",
            "        }",
        ]


def _code(symbol: str, w: ConvWork, strip: Strip, body: Sequence[str]) -> Code:
    kh, kw = w.kernel
    comment = safe_comment(
        f"Weights of {w.weight_bits} bits. Convolution {kh}x{kw}, stride {w.strides[0]}x{w.strides[1]}: "
        f"{w.x.height}x{w.x.width}x{w.x.channels} -> {w.y.height}x{w.y.width}x{w.y.channels}"
    )
    lines = [
        *strip.prototypes(),
        "",
        strip.data(f"{symbol}_strip"),
        strip.definition(f"{symbol}_strip"),
        f"/* {comment}. */",
        f"void {symbol}(const int8_t *x0, int8_t *y, uint8_t *scratch)",
        "{",
        "    uint32_t *const blocks = (uint32_t *)(void *)scratch;",
        *body,
        "}",
    ]
    return Code("\n".join(lines) + "\n", strip.files(), (*strip.includes(), "<string.h>"))


def rows_of(work: ConvWork, target: Target, pixels: int) -> RowCandidate:
    """`work` by rows, `pixels` at a time: all of a row, or one. There must be a proven requantisation."""
    recipe = recipe_of(work)
    assert recipe is not None
    channels = work.x.channels
    row = (work.x.width + work.pads[2] + work.pads[3]) * channels
    step = work.strides[1] * channels
    strip = Strip(
        work, recipe, target.core, (pixels,), row, step, work.y.channels, 1, target.compact
    )  # fmt: skip
    return RowCandidate(work, strip, pixels)


@dataclass(frozen=True)
class LowBits:
    """Layers whose weights all fit four bits, or two."""

    name: str = "low-bits"

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """One candidate per size of strip; a single one where windows have more than one pixel."""
        if (
            len(chain) != 1
            or not isinstance(chain[0], ConvWork)
            or not (target.dsp or target.core == "native")
        ):
            return
        work = chain[0]
        recipe = recipe_of(work) if work.weight_bits < 8 else None
        if recipe is None:
            return
        if work.pointwise:
            yield from self._strips(work, recipe, target)
        else:
            yield rows_of(work, target, work.y.width)

    @staticmethod
    def _strips(work: ConvWork, recipe: Recipe, target: Target) -> Iterable[Candidate]:
        seen = set()
        for budget in _BUDGETS:
            pixels = min(max(4, budget // (2 * work.x.channels) // 4 * 4), work.y.pixels)
            if pixels in seen:
                continue
            seen.add(pixels)
            sizes = tuple(sorted({pixels, work.y.pixels % pixels or pixels}))
            channels = work.x.channels
            strip = Strip(
                work, recipe, target.core, sizes, channels, channels, work.y.channels, 1, target.compact
            )
            yield StripCandidate(work, strip, pixels)
