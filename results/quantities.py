"""Numbers as people write and read them: sizes, durations, counts. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from tinyhil.errors import UsageError

_SIZES = {"": 1, "b": 1, "k": 1024, "kib": 1024, "m": 1024**2, "mib": 1024**2, "kb": 1000, "mb": 1000**2}
_DURATIONS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([^\s0-9.]*)\s*")


def _parse(text: str, units: Mapping[str, float], what: str, example: str) -> float:
    match = _NUMBER.fullmatch(text)
    unit = match[2].lower().replace("μ", "µ") if match else ""
    if match is None or unit not in units:
        known = " ".join(name for name in units if name)
        raise UsageError(f"{text!r} is not a {what}: write for example {example}; units are {known}")
    return float(match[1]) * units[unit]


def parse_size(text: str | int) -> int:
    """Bytes from `256KiB`, `1MiB`, `320K`, `4096` (K = KiB = 1024 bytes, kB = 1000). UsageError otherwise."""
    if isinstance(text, int):
        return text
    return round(_parse(text, _SIZES, "size", '"256KiB"'))


def parse_duration(text: str | float) -> float:
    """Seconds from `100ms`, `2.5s`, `80us`; UsageError without a unit."""
    if not isinstance(text, str):
        raise UsageError(f"{text!r} is a duration without a unit: write for example '100ms'")
    return _parse(text, _DURATIONS, "duration", '"100ms"')


def format_size(nbytes: float, exact: bool = False) -> str:
    """`937 B`, `94.5 KiB`, `1.25 MiB`; with `exact` whole KiB and MiB lose their decimals: `320 KiB`."""
    size = abs(nbytes)
    if size < 1024:
        return f"{nbytes:,.0f} B"
    scale, unit, digits = (1024, "KiB", 1) if size < 1024**2 else (1024**2, "MiB", 2)
    if exact and nbytes % scale == 0:
        digits = 0
    return f"{nbytes / scale:,.{digits}f} {unit}"


_TIME_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))


def format_duration(seconds: float) -> str:
    """Three significant digits with the unit that suits: `155 ms`, `8.20 ms`, `1.08 s`."""
    unit, scale = _time_unit(seconds)
    return f"{significant(seconds / scale)} {unit}"


def format_interval(low: float, high: float) -> str:
    """Two durations with one unit: `203–246 ms`."""
    unit, scale = _time_unit(high)
    return f"{significant(low / scale)}–{significant(high / scale)} {unit}"


def _time_unit(seconds: float) -> tuple[str, float]:
    return next((u for u in _TIME_UNITS if abs(seconds) >= u[1] * 0.9995), _TIME_UNITS[-1])


def format_count(value: float) -> str:
    """`47.43 M`, `1,485 k`, `937`: for reading; the exact count stands beside it or in the title."""
    size = abs(value)
    if size >= 999.5e6:
        return f"{value / 1e9:,.2f} G"
    if size >= 999.5e3:
        return f"{value / 1e6:,.2f} M"
    if size >= 10e3:
        return f"{value / 1e3:,.1f} k"
    return f"{value:,.0f}"


def significant(value: float, digits: int = 3) -> str:
    """`value` rounded to `digits` significant digits, without an exponent; whole digits all stay."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return f"{value:,.{max(digits - 1 - exponent, 0)}f}"
