"""1x1 convolutions and fully-connected layers with four-bit weights.

Flash holds two weights in a byte. A strip of pixels is widened into scratch; then each pair of channels
is unpacked onto the stack and multiplied with the whole strip, so that unpacking is paid once per strip.
The arithmetic is that of eight-bit weights, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tinyhil.harness.tinyengine.asm.gemm import recipe_of
from tinyhil.harness.tinyengine.ctext import safe_comment
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.strips import Strip
from tinyhil.harness.tinyengine.work import ConvWork, Work

_BUDGETS = (1024, 4096, 16384)  # bytes of widened pixels that candidates offer


@dataclass(frozen=True, eq=False)
class Int4Candidate:
    """`pixels` at a time."""

    work: ConvWork
    strip: Strip
    pixels: int
    kernel: str = "int4 gemm"

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
        comment = safe_comment(
            f"Four-bit weights: {w.y.pixels} pixels, {w.x.channels} -> {w.y.channels} channels, {w.macs} MACs"
        )
        lines = [
            *self.strip.prototypes(),
            "",
            self.strip.definition(f"{symbol}_strip"),
            f"/* {comment}. */",
            f"void {symbol}(const int8_t *x0, int8_t *y, uint8_t *scratch)",
            "{",
            "    uint32_t *const blocks = (uint32_t *)(void *)scratch;",
            f"    for (int32_t at = 0; at < {w.y.pixels}; at += {self.pixels}) {{",
            f"        const int32_t count = {count};",
            f"        const int8_t *const from = x0 + at * {w.x.channels};",
            f"        {symbol}_strip(from, (uint32_t)count, y + at * {w.y.channels}, blocks);",
            "    }",
            "}",
        ]
        return Code("\n".join(lines) + "\n", self.strip.files(), self.strip.includes())


@dataclass(frozen=True)
class Int4:
    """Pointwise layers whose weights are int4 in the file."""

    name: str = "int4"

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """One candidate per size of strip."""
        if (
            len(chain) != 1
            or not isinstance(chain[0], ConvWork)
            or not (target.dsp or target.core == "native")
        ):
            return
        work = chain[0]
        recipe = recipe_of(work) if work.weight_bits == 4 and work.pointwise else None
        if recipe is None:
            return
        seen = set()
        for budget in _BUDGETS:
            pixels = min(max(4, budget // (2 * work.x.channels) // 4 * 4), work.y.pixels)
            if pixels in seen:
                continue
            seen.add(pixels)
            sizes = tuple(sorted({pixels, work.y.pixels % pixels or pixels}))
            channels = work.x.channels
            strip = Strip(work, recipe, target.core, sizes, channels, channels, work.y.channels, 1)
            yield Int4Candidate(work, strip, pixels)
