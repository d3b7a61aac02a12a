"""Sums of two tensors as one linear form per element, proven on all 65,536 pairs of inputs.

TFLM scales both inputs to a common grid, adds, and scales the sum: some 40 instructions. Nearly the same
value is (a * x + b * q + c) >> shift; "nearly" is not enough, so the constants are searched until the
clamped result is TFLM's for every pair of int8 values. Where no constants are found the portable kernel
remains. On Armv7E-M an element takes about seven instructions: two loads, two MLA, SSAT, store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tinyhil.harness.model.fixed_point import multiply_by_quantized_multiplier
from tinyhil.harness.tinyengine.ctext import c_plus, render, static_text
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.work import AddWork, Map, Work

_SHIFTS = (21, 23, 22, *range(20, 11, -1))  # the usual one first, so that layers share code; then the finest


@dataclass(frozen=True)
class Linear:
    """out = clamp((a * x + b * q + c) >> shift), all in int32."""

    a: int
    b: int
    c: int
    shift: int


def expected(work: AddWork) -> npt.NDArray[np.int64]:
    """TFLM's result for every pair, [256 values of x, 256 of the other]."""
    values = np.arange(-128, 128, dtype=np.int64)

    def scaled(zero_point: int, scale: tuple[int, int]) -> npt.NDArray[np.int64]:
        return multiply_by_quantized_multiplier((values - zero_point) << work.left_shift, *scale)

    x = scaled(work.x.zero_point, work.x_scale)[:, None]
    q = scaled(work.other.zero_point, work.other_scale)[None, :]
    out = multiply_by_quantized_multiplier(x + q, *work.y_scale) + work.y.zero_point
    return np.clip(out, work.low, work.high)


def _real(scale: tuple[int, int]) -> float:
    return scale[0] * 2.0 ** (scale[1] - 31)


def find_linear(work: AddWork) -> Linear | None:
    """Constants that are exact for every pair, or None.

    For given slopes each pair bounds c from both sides: n << shift <= a*x + b*q + c < (n + 1) << shift
    wherever n is not clamped. Any c in the intersection of these intervals is a proof.
    """
    x, other, y = (Map(1, 1, 1, m.zero_point) for m in (work.x, work.other, work.y))
    return _find(replace(work, x=x, other=other, y=y))


@lru_cache(maxsize=1024)
def _find(work: AddWork) -> Linear | None:
    """The same for one pair; sums of other sizes have the same constants."""
    values = np.arange(-128, 128, dtype=np.int64)
    want = expected(work)
    unit = 2.0**work.left_shift * _real(work.y_scale)
    slope_x, slope_q = _real(work.x_scale) * unit, _real(work.other_scale) * unit
    for shift in _SHIFTS:
        a0, b0 = round(slope_x * 2**shift), round(slope_q * 2**shift)
        for a, b in ((a0 + i, b0 + j) for i in (0, 1, -1) for j in (0, 1, -1)):
            partial = a * values[:, None] + b * values[None, :]
            least = np.where(want > work.low, (want << shift) - partial, -(1 << 62)).max()
            most = np.where(want < work.high, ((want + 1) << shift) - 1 - partial, 1 << 62).min()
            if least <= most and abs(least) < 1 << 61:
                c = int(min(most, least + (most - least) // 2)) if most < 1 << 61 else int(least)
                if max(np.abs(partial + c).max(), np.abs(partial).max(), abs(c)) < 1 << 31:
                    return Linear(a, b, c, shift)
    return None


@dataclass(frozen=True, eq=False)
class LinearAddCandidate:
    """An addition in place over either input."""

    work: AddWork
    linear: Linear
    kernel: str = "linear-add"
    scratch: int = 0
    flash: int = 120
    gaps: tuple[int | None, ...] = (0, 0)
    shared: Mapping[str, int] = field(default_factory=dict)

    @property
    def instructions(self) -> int:
        """Two loads, two multiplications, saturation, store, a share of the loop."""
        extra = 4 if (self.work.low, self.work.high) != (-128, 127) else 0
        return 20 + (8 + extra) * self.work.y.nbytes

    def emit(self, symbol: str) -> Code:
        """A loop over all elements."""
        text = render(
            "add.c.j2", symbol=symbol, w=self.work, f=self.linear, count=self.work.y.nbytes,
            last=c_plus(self.linear.c),
        )  # fmt: skip
        return Code(text, {"nn_math.h": static_text("nn_math.h")}, ('"nn_math.h"',))


@dataclass(frozen=True)
class LinearAdd:
    """Additions whose linear form is proven."""

    name: str = "linear-add"

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """One candidate where constants exist; the same C serves every core."""
        del target
        if len(chain) == 1 and isinstance(chain[0], AddWork):
            linear = find_linear(chain[0])
            if linear is not None:
                yield LinearAddCandidate(chain[0], linear)
