"""Which half-words of a row each output of a depthwise convolution multiplies, and where weights stand.

A row is kept as words of two neighbouring pixels, 16 bits each. A window that starts at an even pixel takes
its taps two by two, (0, 1), (2, 3), ..., and what remains singly; one that starts at an odd pixel takes tap
0 from the upper half of a word, then (1, 2), (3, 4), ... A window may start one pixel in front of the row,
which is padding then: `shift` is 1 where the first one does. Weights lie in words of two in the same way; a
single tap uses a half of a word that holds it anyway, where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Use:
    """What one word of a row gives to one output: both halves times two taps, or one half (the upper one if
    `high`) times one tap."""

    word: int
    taps: tuple[int, ...]
    high: bool = False


@lru_cache(maxsize=4096)
def uses_of(width: int, stride: int, shift: int, column: int) -> tuple[Use, ...]:
    """All uses of one row by output `column`, word by word; `width` is that of the kernel."""
    first = stride * column - shift
    odd = first % 2
    single = [Use(first // 2, (0,), high=True)] if odd else []
    pairs = [Use((first + t) // 2, (t, t + 1)) for t in range(odd, width - 1, 2)]
    last = [Use((first + width - 1) // 2, (width - 1,))] if (width - odd) % 2 else []
    return (*single, *pairs, *last)


Tap = tuple[int, int]  # row, and tap of the row


@dataclass(frozen=True)
class Lanes:
    """The weights of `rows` rows of a kernel as words of two taps, None where a half is empty."""

    words: tuple[tuple[Tap | None, Tap | None], ...]

    def find(self, row: int, taps: tuple[int, ...]) -> tuple[int, int]:
        """Word, and half of it, where `taps` of `row` stand."""
        wanted = tuple((row, t) for t in taps)
        for index, word in enumerate(self.words):
            if word == wanted:
                return index, 0
            if len(wanted) == 1 and wanted[0] in word:
                return index, word.index(wanted[0])
        raise KeyError((row, taps))


@lru_cache(maxsize=1024)
def lanes_of(rows: int, width: int, stride: int, shift: int, columns: int) -> Lanes:
    """The words of weights that `columns` outputs need of `rows` rows."""
    uses = [use for column in range(min(columns, 2)) for use in uses_of(width, stride, shift, column)]
    pairs = list(dict.fromkeys(use.taps for use in uses if len(use.taps) == 2))
    covered = {t for pair in pairs for t in pair}
    loose = list(dict.fromkeys(use.taps[0] for use in uses if len(use.taps) == 1))
    words: list[tuple[Tap | None, Tap | None]] = [((r, a), (r, b)) for r in range(rows) for a, b in pairs]
    singles: list[Tap | None] = [(r, t) for r in range(rows) for t in loose if t not in covered]
    singles += [None] * (len(singles) % 2)
    return Lanes((*words, *zip(singles[::2], singles[1::2], strict=True)))
