"""How far an output may lie over its dying input: safe distances, computed from the order of accesses.

A kernel that walks its output in memory order needs, from output element e on, no input byte below
first[e]. The output may then start `gap` bytes below the input, with gap = max(written[e] - first[e]).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.work import ConvWork, DepthwiseWork


def gap_of(written: npt.NDArray[np.int64], first: npt.NDArray[np.int64]) -> int:
    """`written[e]`: output bytes written once step e is done; `first[e]`: lowest input byte that step e
    or a later one reads before or while writing. Both int64 of one length."""
    needed = np.minimum.accumulate(first[::-1])[::-1]
    return int((written - needed).max())


def window_starts(size: int, kernel_stride: int, pad: int, count: int) -> npt.NDArray[np.int64]:
    """First input index that each of `count` windows reads along one dimension of `size`."""
    return np.clip(np.arange(count, dtype=np.int64) * kernel_stride - pad, 0, size - 1)


def pixel_gap(work: ConvWork | DepthwiseWork) -> int:
    """For kernels that read a pixel's whole window, perhaps again per channel, and write pixel by pixel."""
    rows = window_starts(work.x.height, work.strides[0], work.pads[0], work.y.height)
    columns = window_starts(work.x.width, work.strides[1], work.pads[2], work.y.width)
    first = ((rows[:, None] * work.x.width + columns[None, :]) * work.x.channels).reshape(-1)
    written = np.arange(1, work.y.pixels + 1, dtype=np.int64) * work.y.channels
    return gap_of(written, first)


def row_gap(work: ConvWork | DepthwiseWork, rows_at_once: int = 1) -> int:
    """For kernels that finish `rows_at_once` output rows from whole input rows before the next ones."""
    starts = window_starts(work.x.height, work.strides[0], work.pads[0], work.y.height)
    first = starts * (work.x.width * work.x.channels)
    ends = np.minimum((np.arange(work.y.height) // rows_at_once + 1) * rows_at_once, work.y.height)
    blocks = np.arange(work.y.height) // rows_at_once * rows_at_once
    return gap_of(ends * (work.y.width * work.y.channels), first[blocks])
