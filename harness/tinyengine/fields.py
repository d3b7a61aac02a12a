"""Weights of less than eight bits: how few hold them, and how they lie in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

WIDTHS = (2, 4)  # bits that flash may hold weights in, beside eight


def bits_of(weights: npt.NDArray[Any]) -> int:
    """The least of 2, 4 and 8 bits, two's complement, that hold all weights."""
    low, high = (int(weights.min()), int(weights.max())) if weights.size else (0, 0)
    return next((b for b in WIDTHS if -(1 << b - 1) <= low and high < 1 << b - 1), 8)


def pack_fields(lanes: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int32]:
    """`lanes` [words, 4 bytes] in fields of `bits` bits: 8 / bits of them in an int32 word.

    Each value is moved up by half its range, so that none is negative; word i of a group lies i * bits
    above its bytes' lowest bits. One AND, one OR and one subtraction take it out (nn_low_bits.h).
    """
    per_word, half = 8 // bits, 1 << bits - 1
    moved = lanes + half
    assert not moved.size or (moved.min() >= 0 and moved.max() < 2 * half)
    words = (moved << np.arange(0, 32, 8)).sum(axis=1)
    groups = np.append(words, np.zeros(-len(words) % per_word, np.int64)).reshape(-1, per_word)
    packed: npt.NDArray[np.int32] = (
        (groups << np.arange(0, 8, bits)).sum(axis=1).astype(np.uint32).view(np.int32)
    )
    return packed
