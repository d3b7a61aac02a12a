"""Plain C for every operator: the kernel that always applies, on any core.

Straight loops in HWC order, one template per operator in firmware_templates/kernels/. Also the whole
of the `reference` engine, and the fallback where no faster kernel fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tinyhil.harness.tinyengine.ctext import render, safe_comment, static_text
from tinyhil.harness.tinyengine.kernel import Candidate, Code, Target
from tinyhil.harness.tinyengine.overlap import pixel_gap
from tinyhil.harness.tinyengine.portable_ops import template_of
from tinyhil.harness.tinyengine.work import AddWork, ConvWork, DepthwiseWork, GraphWork, Requant, Work

_CODE_BYTES = 200  # about what GCC makes of one such loop nest


@dataclass(frozen=True, eq=False)
class RequantView:
    """A Requant as the templates want it: one pair of scalars where all channels share it."""

    source: Requant

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    @property
    def uniform(self) -> bool:
        """All channels have the same multiplier and shift."""
        r = self.source
        return bool((r.multiplier == r.multiplier[0]).all() and (r.shift == r.shift[0]).all())


@dataclass(frozen=True, eq=False)
class PortableCandidate:
    """One operator as plain C."""

    work: Work
    template: str
    values: Mapping[str, Any]
    gaps: tuple[int | None, ...]
    flash: int
    instructions: int
    kernel: str = "portable"
    scratch: int = 0
    shared: Mapping[str, int] = field(default_factory=dict)

    def emit(self, symbol: str) -> Code:
        """The operator's template filled in."""
        text = render(self.template, symbol=symbol, **self.values)
        return Code(text, {"nn_math.h": static_text("nn_math.h")}, ('"nn_math.h"', "<string.h>"))


def _convolution(work: ConvWork | DepthwiseWork) -> PortableCandidate:
    kh, kw = work.kernel
    what = "Depthwise convolution" if isinstance(work, DepthwiseWork) else "Convolution"
    x, y = work.x, work.y
    comment = (
        f"{what} {kh}x{kw}, stride {work.strides[0]}x{work.strides[1]}: "
        f"{x.height}x{x.width}x{x.channels} -> {y.height}x{y.width}x{y.channels}, {work.macs} MACs."
    )
    values = {
        "w": work,
        "r": RequantView(work.requant),
        "padded": any(work.pads),
        "kh": kh,
        "kw": kw,
        "sh": work.strides[0],
        "sw": work.strides[1],
        "dh": work.dilations[0],
        "dw": work.dilations[1],
        "comment": safe_comment(comment),
    }
    depthwise = isinstance(work, DepthwiseWork)
    flash = int(work.weights.size) + 9 * y.channels + _CODE_BYTES
    cost = (12 if depthwise else 5) * work.macs + 25 * y.nbytes
    return PortableCandidate(
        work, "depthwise.c.j2" if depthwise else "conv.c.j2", values, (pixel_gap(work),), flash, cost
    )


def _add(work: AddWork) -> PortableCandidate:
    values = {
        "constants": [],
        "constant_names": (),
        "pointers": 2,
        "dims": [{"size": work.y.nbytes}],
        "index_a": "i0",
        "index_b": "i0",
        "zero_a": work.x.zero_point,
        "zero_b": work.other.zero_point,
        "kind": "Add",
        "left_shift": work.left_shift,
        "scale_a": work.x_scale,
        "scale_b": work.other_scale,
        "scale": work.y_scale,
        "r": {"zero_point": work.y.zero_point, "low": work.low, "high": work.high},
        "comment": f"Sum of two tensors of {work.y.nbytes} values.",
    }
    return PortableCandidate(work, "binary.c.j2", values, (0, 0), _CODE_BYTES, 60 * work.y.nbytes)


@dataclass(frozen=True)
class Portable:
    """The kernel that computes any single operator."""

    name: str = "portable"

    def candidates(self, chain: Sequence[Work], target: Target) -> Iterable[Candidate]:
        """Exactly one candidate per single operator."""
        if len(chain) != 1:
            return
        match chain[0]:
            case ConvWork() | DepthwiseWork() as work:
                yield _convolution(work)
            case AddWork() as work:
                yield _add(work)
            case GraphWork() as work:
                parts = template_of(work)
                flash = _CODE_BYTES + parts.constant_bytes
                yield PortableCandidate(
                    work, parts.template, parts.values, parts.gaps, flash, parts.instructions
                )
