"""Depthwise convolutions over padded planes, for use inside fused layers.

A plane holds some rows of one channel, `row_stride` bytes apart, with the padding in place, so that no
window needs a test. The outputs go to HWC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from tinyhil.harness.tinyengine.asm.requant import Recipe, choose, reach_of
from tinyhil.harness.tinyengine.ctext import c_array, static_text
from tinyhil.harness.tinyengine.fast_planes import FastPlanes, plane_rows
from tinyhil.harness.tinyengine.work import DepthwiseWork


@lru_cache(maxsize=1024)
def recipe_of(work: DepthwiseWork) -> Recipe | None:
    """The cheapest proven requantisation of all channels."""
    flat = work.weights.reshape(-1, work.weights.shape[2]).T
    return choose(work.requant, reach_of(flat, work.folded_bias))


class Planes(Protocol):
    """A depthwise convolution over planes, `tile` output rows at a time (or what remains at the end)."""

    @property
    def core(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def row_stride(self) -> int: ...
    @property
    def plane_bytes(self) -> int: ...
    @property
    def flash(self) -> int: ...
    @property
    def shared(self) -> Mapping[str, int]: ...
    def instructions(self, rows: int) -> int:
        """One call for `rows` output rows of all channels."""
        ...

    def files(self) -> dict[str, str]:
        """Helper files by name."""
        ...

    def includes(self) -> tuple[str, ...]:
        """Headers that the definition needs."""
        ...

    def prototypes(self) -> list[str]:
        """Declarations of the micro-kernels."""
        ...

    def data(self, name: str) -> str:
        """C text of `static const int32_t NAME_stream[]`; nothing where the definition holds its data."""
        ...

    def definition(self, name: str) -> str:
        """`static void NAME(const int8_t *planes, int32_t rows, int8_t *y, const int32_t *stream)`; y is
        HWC."""
        ...


def planes_for(
    work: DepthwiseWork, tile: int, core: str, part_of: DepthwiseWork | None = None
) -> tuple[Planes, ...]:
    """The forms that are worth a look: fastest, and smaller. `part_of`: the whole, where `work` computes
    some columns only; its requantisation is proven once."""
    recipe = recipe_of(part_of or work)
    if recipe is not None:
        fast = FastPlanes(work, tile, recipe, core, 16)
        if fast.possible:
            return fast, *(FastPlanes(work, tile, recipe, core, b) for b in sorted({8, work.weight_bits}))
    return (PlainPlanes(work, tile, core),)


@dataclass(frozen=True, eq=False)
class PlainPlanes:
    """Plain C, where the micro-kernel does not apply."""

    work: DepthwiseWork
    tile: int
    core: str

    @property
    def rows(self) -> int:
        """Plane rows in memory at a time."""
        return plane_rows(self.work, self.tile)

    @property
    def row_stride(self) -> int:
        """Bytes of one padded row."""
        return self.work.x.width + self.work.pads[2] + self.work.pads[3]

    @property
    def plane_bytes(self) -> int:
        """Bytes of one plane."""
        return self.rows * self.row_stride

    @property
    def flash(self) -> int:
        """Weights and constants."""
        return int(self.work.weights.size) + 9 * self.work.y.channels + 250

    @property
    def shared(self) -> Mapping[str, int]:
        """Nothing."""
        return {}

    def instructions(self, rows: int) -> int:
        """One call for `rows` output rows of all channels."""
        kh, kw = self.work.kernel
        return rows * self.work.y.width * self.work.y.channels * (6 * kh * kw + 25)

    def files(self) -> dict[str, str]:
        """The arithmetic."""
        return {"nn_math.h": static_text("nn_math.h")}

    def includes(self) -> tuple[str, ...]:
        """Headers."""
        return ('"nn_math.h"',)

    def prototypes(self) -> list[str]:
        """Nothing."""
        return []

    def data(self, name: str) -> str:
        """Nothing: the definition holds its data."""
        return ""

    def definition(self, name: str) -> str:
        """`static void NAME(const int8_t *planes, int32_t rows, int8_t *y, const int32_t *stream)`."""
        w, r = self.work, self.work.requant
        kh, kw = w.kernel
        c = w.y.channels
        plane = "c" if w.multiplier == 1 else f"c / {w.multiplier}"
        by_channel = w.weights.transpose(2, 0, 1)
        return f"""static const int8_t {name}_weights[{w.weights.size}] = {{
{c_array(by_channel)}
}};
static const int32_t {name}_bias[{c}] = {{
{c_array(w.folded_bias)}
}};
static const int32_t {name}_multiplier[{c}] = {{
{c_array(r.multiplier)}
}};
static const int8_t {name}_shift[{c}] = {{
{c_array(r.shift)}
}};

static void {name}(const int8_t *planes, int32_t rows, int8_t *y, const int32_t *stream)
{{
    (void)stream; /* all that it would hold is above */
    for (int32_t c = 0; c < {c}; c++) {{
        const int8_t *plane = planes + {plane} * {self.plane_bytes};
        const int8_t *weights = {name}_weights + c * {kh * kw};
        int8_t *out = y + c;
        for (int32_t row = 0; row < rows; row++) {{
            for (int32_t column = 0; column < {w.y.width}; column++) {{
                int32_t sum = {name}_bias[c];
                for (int32_t ky = 0; ky < {kh}; ky++) {{
                    for (int32_t kx = 0; kx < {kw}; kx++) {{
                        const int8_t in = plane[ky * {self.row_stride} + column * {w.strides[1]} + kx];
                        sum += in * weights[ky * {kw} + kx];
                    }}
                }}
                sum = nn_requantize(sum, {name}_multiplier[c], {name}_shift[c]) + ({r.zero_point});
                *out = nn_clamp(sum, {r.low}, {r.high});
                out += {c};
            }}
            plane += {w.strides[0] * self.row_stride};
        }}
    }}
}}
"""
