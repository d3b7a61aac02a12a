"""From accumulator to int8: the cheapest instruction sequence that is proven equal to TFLM's arithmetic.

TFLM's output is a non-decreasing function of the accumulator x, so it is described fully by its
thresholds: T[n] = the least x whose output is n or more. A cheaper non-decreasing formula is equal for
*every* reachable x if it agrees at each T[n] and T[n] - 1. Two recipes use this:

* `Proved`, two instructions on 256*x + offset:
      y = ((256*x + offset) * multiplier >> 32) + addend       SMMLA
      out = saturate8(y >> shift)                              SSAT ..., ASR #shift
  The free constants are not searched for: each threshold bounds offset * multiplier + addend * 2^32
  from one side, and any value in the intersection of all these intervals is a proof. The intersection
  is rarely empty where outputs lie on one side of the zero point (every layer with ReLU), and mostly
  empty where TFLM's halves round away from zero on both sides. `shift` is the same for all channels; a
  smaller one than a channel's own costs precision, but rarely the proof. `addend` is, too, if slightly
  other multipliers allow it, which is nearly always: then it need not stand beside every channel.
* `Rounded`, five instructions on x, equal to TFLM by construction:
      v = (x * 2^32 + x * (2*m - 2^32) + 2^31) >> 32           SMMLAR: the rounding doubling high multiply
      out = saturate8((v + (v >> 31) + addend) >> shift)       ADD ASR #31, ADD, ASR, SSAT

Accumulators carry a factor of 256 through 32-bit registers, so |256*x| must stay under 2^31: `choose`
checks it on the real weights and answers None where no recipe applies. A channel without any weight has
one accumulator only, however large: its output is a constant, and kernels start it from 0 (`live_bias`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tinyhil.harness.model.fixed_point import multiply_by_quantized_multiplier
from tinyhil.harness.tinyengine.work import Requant

Ints: TypeAlias = npt.NDArray[np.int64]

_MAX_SHIFT = 22  # thresholds stay inside int64 up to here
_CHANGES = 1000  # how far a multiplier may be changed in search of a proof
_FEW = 5  # changes that are tried on all channels at once
_NEAR, _MORE = 30, 200  # how many are then tried on each channel that is left: at first, and at a time
_ADDENDS = 64  # how many addends are tried until an offset falls into the proven interval
_CONSTANT_SHIFT = 23
_FAR = (1 << 63) - 1  # beyond every bound of an interval
_MOST_CHOSEN = 2048  # layers whose recipes are remembered
_USUAL, _GRID = 10, 4  # the shift that is tried first, then multiples of four: so layers share code


@dataclass(frozen=True, eq=False)
class Reach:
    """Least and greatest accumulator that int8 inputs can make, int64 [channels]."""

    low: Ints
    high: Ints


@dataclass(frozen=True, eq=False)
class Proved:
    """Two instructions; arrays int64 [channels], `low` and `high` the activation's clamp."""

    multiplier: Ints
    offset: Ints
    addend: Ints
    shift: int
    low: int
    high: int

    def apply(self, x: Ints) -> Ints:
        """What the instructions compute; x is [..., channels]."""
        y = ((256 * x + self.offset) * self.multiplier >> 32) + self.addend
        saturated = np.clip(y >> self.shift, -128, 127)
        result: Ints = np.clip(saturated, self.low, self.high)
        return result


@dataclass(frozen=True, eq=False)
class Rounded:
    """Five instructions; `multiplier` is 2*m - 2^32; arrays int64 [channels]."""

    multiplier: Ints
    addend: Ints
    shift: Ints
    low: int
    high: int

    def apply(self, x: Ints) -> Ints:
        """What the instructions compute; x is [..., channels]."""
        v = ((x << 32) + x * self.multiplier + (1 << 31)) >> 32
        saturated = np.clip((v + (v >> 31) + self.addend) >> self.shift, -128, 127)
        result: Ints = np.clip(saturated, self.low, self.high)
        return result


Recipe: TypeAlias = Proved | Rounded
_CHOSEN: dict[tuple[bytes, int, int, int], Recipe | None] = {}


def reach_of(weights: npt.NDArray[np.int8], folded_bias: Ints) -> Reach:
    """Bounds of folded_bias + sum(w * x) over all int8 x; weights are [channels, taps]."""
    w = weights.astype(np.int64)
    ends = np.stack([w * 127, w * -128])
    return Reach(folded_bias + ends.min(axis=0).sum(axis=1), folded_bias + ends.max(axis=0).sum(axis=1))


def choose(requant: Requant, reach: Reach) -> Recipe | None:
    """The cheapest proven recipe for all channels of a layer, or None; the same object for the same numbers,
    as layers that differ in nothing but their size have them."""
    arrays = (requant.multiplier, requant.shift, reach.low, reach.high)
    constants = b"".join(a.tobytes() for a in arrays)
    key = constants, requant.zero_point, requant.low, requant.high
    if key not in _CHOSEN:
        if len(_CHOSEN) >= _MOST_CHOSEN:
            _CHOSEN.clear()
        _CHOSEN[key] = _choose(requant, reach)
    return _CHOSEN[key]


def _choose(requant: Requant, reach: Reach) -> Recipe | None:
    constant, value = _constants(requant, reach)
    live = Reach(
        np.where(reach.low == reach.high, 0, reach.low), np.where(reach.low == reach.high, 0, reach.high)
    )
    if max(abs(int(live.low.min())), abs(int(live.high.max()))) >= (1 << 23) - 4096:
        return None
    return _prove(requant, live, constant, value) or _round(requant, live, constant, value)


def live_bias(weights: npt.NDArray[np.int8], folded_bias: Ints) -> Ints:
    """The folded biases that kernels start from; weights are [channels, taps]."""
    return np.where(weights.any(axis=1), folded_bias, 0)


def expected(requant: Requant, x: Ints) -> Ints:
    """TFLM's own output for accumulators [..., channels]."""
    scaled = multiply_by_quantized_multiplier(x, requant.multiplier, requant.shift)
    result: Ints = np.clip(scaled + requant.zero_point, requant.low, requant.high)
    return result


def thresholds(
    multiplier: Ints | int, shift: Ints | int, zero_point: int, low: int, high: int
) -> tuple[Ints, Ints]:
    """Outputs n = low+1 .. high and, for each, the least int32 x with output >= n; multiplier > 0.
    For `multiplier` and `shift` of [channels], x is [channels, outputs]."""
    n = np.arange(low + 1, high + 1, dtype=np.int64)
    m, e = np.asarray(multiplier, np.int64)[..., None], np.asarray(shift, np.int64)[..., None]
    right = np.maximum(-e, 0)
    wanted = n - zero_point
    # halves round away from zero: upwards above zero, downwards below
    least = (wanted << right) - (1 << right >> 1) + ((wanted <= 0) & (right > 0))
    return n, -((-((least << 31) - (1 << 30))) // (m << np.maximum(e, 0)))


def _constants(requant: Requant, reach: Reach) -> tuple[npt.NDArray[np.bool_], Ints]:
    """Which channels give the same output for every reachable x, and that output."""
    lowest, highest = expected(requant, reach.low), expected(requant, reach.high)
    return lowest == highest, lowest


def _prove(requant: Requant, reach: Reach, constant: npt.NDArray[np.bool_], value: Ints) -> Proved | None:
    varying = np.flatnonzero(~constant)
    shifts = requant.shift.astype(np.int64)
    most = int((7 - shifts[varying]).min()) if varying.size else _USUAL
    if not 1 <= most <= _MAX_SHIFT or (varying.size and int(shifts[varying].min()) < -_MAX_SHIFT):
        return None
    if varying.size and not _fits_int32(reach, np.maximum(shifts, 0), varying):
        return None
    shifts_tried = dict.fromkeys(s for s in (_USUAL, most // _GRID * _GRID, most) if 0 < s <= most)
    for common, shift in [*((True, s) for s in shifts_tried), *((False, s) for s in shifts_tried)]:
        fixed = _fixed_members(requant, reach, constant, value, shift, common)
        found = _members(requant, reach, varying.tolist(), shift, common) if fixed is not None else None
        if fixed is not None and found is not None:
            members = fixed | found
            multiplier, offset, addend = np.array([members[c] for c in range(shifts.size)], np.int64).T
            return Proved(multiplier, offset, addend, shift, requant.low, requant.high)
    return None


def _middle(output: int, shift: int) -> int:
    """In the middle of all numbers that are `output` when shifted right."""
    return (output << shift) + (1 << (shift - 1))


def _fixed_members(
    requant: Requant, reach: Reach, constant: npt.NDArray[np.bool_], value: Ints, shift: int, common: bool
) -> dict[int, tuple[int, int, int]] | None:
    """(multiplier, offset, addend) of the channels whose output never changes: the addend alone makes it, or
    if it is to be `common`, the offset under a multiplier that keeps the whole reach within half a step. None
    if one has none."""
    found = {}
    for c in np.flatnonzero(constant).tolist():
        level = int(value[c]) - requant.zero_point if common else 0
        low, high = int(reach.low[c]), int(reach.high[c])
        addend = _middle(int(value[c]) - level, shift)
        multiplier = max(1, min((1 << 31) - 1, (1 << (shift + 22)) // max(high - low, 1))) if level else 0
        offset = (level << (shift + 32)) // multiplier - 128 * (low + high) if level else 0
        if max(abs(256 * x + offset) for x in (low, high)) >= 1 << 31 or abs(offset) >= 1 << 31:
            return None
        if not _sums_fit(multiplier, offset, addend, low, high):
            return None
        found[c] = (multiplier, offset, addend)
    return found


def _members(
    requant: Requant, reach: Reach, channels: list[int], shift: int, common: bool
) -> dict[int, tuple[int, int, int]] | None:
    """Constants of each channel, or None if one of them has none: with one addend for all if `common`;
    all the same where one scale serves the whole layer."""
    scales = {(int(requant.multiplier[c]), int(requant.shift[c])) for c in channels}
    if len(scales) == 1 and len(channels) == reach.low.size:
        widest = Reach(np.full_like(reach.low, reach.low.min()), np.full_like(reach.high, reach.high.max()))
        one = _interval_members(requant, widest, channels[:1], shift, common)
        if one is not None:
            return dict.fromkeys(channels, one[channels[0]])
    return _interval_members(requant, reach, channels, shift, common)


def _fits_int32(reach: Reach, left: Ints, channels: npt.NDArray[np.int64]) -> bool:
    low, high = reach.low[channels] << left[channels], reach.high[channels] << left[channels]
    return bool((low >= -(1 << 31)).all() and (high < 1 << 31).all())


@dataclass(frozen=True, eq=False)
class _Steps:
    """Outputs [outputs], and for each channel 256 times the accumulators on both sides of the step up to
    each, cut to the channel's reach: [channels, outputs]; which of these steps lie
    inside the reach."""

    outputs: Ints
    above: Ints
    below: Ints
    reached: npt.NDArray[np.bool_]
    missed: npt.NDArray[np.bool_]

    @staticmethod
    def of(requant: Requant, reach: Reach, channels: Sequence[int]) -> _Steps:
        """Of `channels` of a layer."""
        multiplier, shift = (a[channels].astype(np.int64) for a in (requant.multiplier, requant.shift))
        n, t = thresholds(multiplier, shift, requant.zero_point, requant.low, requant.high)
        low, high = reach.low[channels, None], reach.high[channels, None]
        return _Steps(n, 256 * np.maximum(t, low), 256 * np.minimum(t - 1, high), t <= high, t > low)

    def interval(self, rows: Sequence[int], multiplier: Ints, shift: int) -> tuple[Ints, Ints]:
        """Between which bounds offset * multiplier + addend * 2^32 must lie; `multiplier` and both bounds
        are [rows, tried]. Each row has a step inside its reach."""
        goal, each = self.outputs << (shift + 32), multiplier[:, :, None]
        least = goal - each * self.above[rows][:, None, :]
        most = goal - each * self.below[rows][:, None, :]
        reached, missed = self.reached[rows][:, None, :], self.missed[rows][:, None, :]
        if not reached.all():
            least = np.where(reached, least, -_FAR)
        if not missed.all():
            most = np.where(missed, most, _FAR)
        return least.max(axis=2), most.min(axis=2) - 1


def _interval_members(
    requant: Requant, reach: Reach, channels: Sequence[int], shift: int, common: bool
) -> dict[int, tuple[int, int, int]] | None:
    """(multiplier, offset, addend) of each channel that meet every threshold, None if one has none; if
    `common`, with the addend that depends on nothing but the zero point and the shift."""
    nominal = _middle(requant.zero_point, shift) if common else None
    changes = np.array(sorted(range(-_CHANGES, _CHANGES + 1), key=abs), np.int64)
    first, few, *further = np.split(changes, [1, _FEW, *range(_NEAR, changes.size, _MORE)])
    steps = _Steps.of(requant, reach, channels)
    found: dict[int, tuple[int, int, int]] = {}

    def left() -> list[int]:
        return [row for row, c in enumerate(channels) if c not in found]

    def search(rows: Sequence[int], tried: Ints) -> bool:
        """The first of `tried` changes of the multiplier that gives each row a member; whether any of them
        would give one with another addend."""
        at = [channels[row] for row in rows]
        # the common shift is smaller than a channel's own: drop low bits of its multiplier
        down = 7 - requant.shift[at].astype(np.int64) - shift
        nearest = (requant.multiplier[at].astype(np.int64) + (1 << down >> 1)) >> down
        multiplier = nearest[:, None] + tried
        bottom, top = steps.interval(rows, multiplier, shift)
        possible = (bottom <= top) & (multiplier > 0) & (multiplier < 1 << 31)
        for row, column in np.argwhere(possible).tolist():
            c, factor, first = at[row], int(multiplier[row, column]), int(bottom[row, column])
            if c in found:
                continue
            addends = range(first >> 32, (first >> 32) - _ADDENDS, -1) if nominal is None else [nominal]
            member = _representable(first, int(top[row, column]), factor, addends)
            if member is not None and _sums_fit(factor, *member, int(reach.low[c]), int(reach.high[c])):
                found[c] = (factor, *member)
        return bool(possible.any())

    for tried in (first, few):  # mostly enough: all channels at once
        if rows := left():
            search(rows, tried)
    for row in left():
        near = False
        for number, tried in enumerate(further):
            near = search([row], tried) or near
            if channels[row] in found or (number > 0 and not near):  # then none farther away will do
                break
        if channels[row] not in found:
            return None
    return found


def _representable(bottom: int, top: int, multiplier: int, addends: Iterable[int]) -> tuple[int, int] | None:
    """(offset, addend) with bottom <= offset * multiplier + addend * 2^32 <= top and a small offset."""
    for addend in addends:
        offset = -((-(bottom - (addend << 32))) // multiplier)
        if 0 <= offset < 4096 and offset * multiplier + (addend << 32) <= top:
            return offset, addend
    return None


def _sums_fit(multiplier: int, offset: int, addend: int, low: int, high: int) -> bool:
    """SMMLA adds the addend modulo 2^32: the sum must not wrap at either end of the reach."""
    ends = [(((256 * x + offset) * multiplier) >> 32) + addend for x in (low, high)]
    return min(ends) >= -(1 << 31) and max(ends) < 1 << 31 and abs(addend) < 1 << 31


def _round(requant: Requant, reach: Reach, constant: npt.NDArray[np.bool_], value: Ints) -> Rounded | None:
    right = -requant.shift.astype(np.int64)
    if (~constant & ((right < 1) | (right > _MAX_SHIFT))).any():
        return None
    # A channel that never changes its output: x / 2 stays under half a step of 2^23.
    shift = np.where(constant, _CONSTANT_SHIFT, right)
    multiplier = np.where(constant, -(1 << 31), 2 * requant.multiplier.astype(np.int64) - (1 << 32))
    target = np.where(constant, value, requant.zero_point)
    addend = (target << shift) + (np.int64(1) << (shift - 1))
    if np.abs(addend).max() + np.abs(np.stack([reach.low, reach.high])).max() >= (1 << 31) - 1:
        return None
    return Rounded(multiplier, addend, shift, requant.low, requant.high)
