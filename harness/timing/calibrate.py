"""Fitting a board's memory penalties to cycles that were measured on it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinyhil.errors import UsageError
from tinyhil.harness.targets.recorder import Segment
from tinyhil.harness.timing.block_costs import BlockCosts
from tinyhil.harness.timing.estimate import Estimate, estimate_segment, total

#: The keys of `[timing]` that are fitted, and the part of an estimate that each one scales.
FITTED: Mapping[str, str] = {"flash_line": "flash", "ram_line": "sram"}
#: A penalty is fitted if one cycle more or less of it changes some loop by at least this part.
_VISIBLE = 0.005


@dataclass(frozen=True)
class Sample:
    """One loop: cycles `measured` on the board; `fixed` estimated cycles besides the penalties, and
    `lines`: how often each key of `FITTED` is paid."""

    name: str
    measured: float
    fixed: float
    lines: Mapping[str, float]

    def cycles(self, penalties: Mapping[str, float]) -> float:
        """The estimate with these penalties."""
        return self.fixed + sum(count * penalties[key] for key, count in self.lines.items())


@dataclass(frozen=True)
class Calibration:
    """Penalties before and after, in cycles per line. What no loop shows stays as it was."""

    before: Mapping[str, float]
    after: Mapping[str, float]
    samples: tuple[Sample, ...]

    def errors(self) -> list[tuple[str, float, float]]:
        """(loop, error before, error after), relative to the measurement."""
        return [
            (s.name, s.cycles(self.before) / s.measured - 1, s.cycles(self.after) / s.measured - 1)
            for s in self.samples
        ]


def sample(name: str, measured: float, costs: BlockCosts, segments: Sequence[Segment]) -> Sample:
    """A loop's sample from its recorded segments and its measured cycles."""
    whole: Estimate = total(estimate_segment(costs, segment) for segment in segments)
    penalties = current_penalties(costs)
    lines = {
        key: whole.parts[part] / penalties[key] if penalties[key] else 0.0 for key, part in FITTED.items()
    }
    fixed = whole.value - sum(whole.parts[part] for part in FITTED.values())
    return Sample(name, measured, fixed, lines)


def current_penalties(costs: BlockCosts) -> dict[str, float]:
    """The board's penalties by key of `FITTED`."""
    return {"flash_line": costs.memory.flash_line, "ram_line": costs.memory.ram_line}


def fit(samples: Sequence[Sample], before: Mapping[str, float]) -> Calibration:
    """Least squares over relative errors; penalties are never negative.

    Raises UsageError if no sample shows any penalty.
    """
    keys = [key for key in FITTED if any(s.lines.get(key, 0) > _VISIBLE * s.measured for s in samples)]
    if not keys:
        raise UsageError("none of the loops shows a memory penalty: were they run with the caches on?")
    after = dict(before)
    chosen = list(keys)
    while chosen:
        matrix = np.array([[s.lines.get(key, 0.0) / s.measured for key in chosen] for s in samples])
        kept = np.array(
            [sum(s.lines.get(key, 0.0) * after[key] for key in FITTED if key not in chosen) for s in samples]
        )
        wanted = np.array([1.0 - (s.fixed + k) / s.measured for s, k in zip(samples, kept, strict=True)])
        solution = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
        negative = [key for key, value in zip(chosen, solution, strict=True) if value < 0]
        if not negative:
            after.update(zip(chosen, (round(float(value), 2) for value in solution), strict=True))
            break
        for key in negative:
            after[key] = 0.0
            chosen.remove(key)
    return Calibration(dict(before), after, tuple(samples))


def write_penalties(toml: str, penalties: Mapping[str, float]) -> str:
    """The board file's text with these values in its `[timing]` table; comments elsewhere stay."""
    head, found, tail = toml.partition("[timing]")
    if not found:
        head, tail = toml.rstrip() + "\n\n", "\n"
    following = re.search(r"\n(?=\n*\[)", tail)  # the end of the table's last line
    cut = following.end() if following else len(tail)
    body, rest = tail[:cut], tail[cut:]
    for key, value in penalties.items():
        line = f"{key} = {value:g} # measured with `tinyhil calibrate`"
        pattern = re.compile(rf"^{key} *=.*$", re.MULTILINE)
        body = pattern.sub(line, body) if pattern.search(body) else body.rstrip("\n") + f"\n{line}\n"
    return head + "[timing]" + body + rest
