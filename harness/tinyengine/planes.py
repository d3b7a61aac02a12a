"""Depthwise convolutions over padded planes, for use inside fused layers.

A plane holds some rows of one channel, `row_stride` bytes apart, with the padding in place, so that no
window needs a test. The outputs go to HWC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinyhil.harness.tinyengine.ctext import c_array, static_text
from tinyhil.harness.tinyengine.work import DepthwiseWork


@dataclass(frozen=True, eq=False)
class PlainPlanes:
    """Plain C. `plane_bytes`: from one channel's plane to the next."""

    work: DepthwiseWork
    rows: int
    """Plane rows that are in memory at a time."""

    @property
    def row_stride(self) -> int:
        """Bytes of one padded row."""
        return self.work.x.width + self.work.pads[2] + self.work.pads[3]

    @property
    def plane_bytes(self) -> int:
        """Bytes of one plane."""
        return self.rows * self.row_stride

    @property
    def possible(self) -> bool:
        """Always."""
        return True

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

    def definition(self, name: str) -> str:
        """`static void NAME(const int8_t *planes, int32_t rows, int8_t *y)` and its data."""
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

static void {name}(const int8_t *planes, int32_t rows, int8_t *y)
{{
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
