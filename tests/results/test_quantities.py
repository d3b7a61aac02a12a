"""Numbers as people read and write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyhil.results.quantities import (
    format_count,
    format_duration,
    format_interval,
    format_size,
    parse_duration,
    parse_size,
    significant,
)


@pytest.mark.parametrize(
    ("value", "words"),
    [(2.5, "2.50"), (0.99999, "1.00"), (0.0456, "0.0456"), (94.47, "94.5"), (1234.5, "1,234"), (0, "0")],
)
def test_three_significant_digits(value, words) -> None:
    assert significant(value) == words


@given(st.floats(1e-9, 1e12))
def test_rounding_stays_within_half_a_unit_of_the_third_digit(value) -> None:
    assert float(significant(value).replace(",", "")) == pytest.approx(value, rel=0.006)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("256KiB", 262_144),
        ("1 MiB", 1_048_576),
        ("320k", 327_680),
        ("10kB", 10_000),
        ("7", 7),
        ("0.5KiB", 512),
    ],
)
def test_sizes_are_read(text, nbytes) -> None:
    assert parse_size(text) == nbytes


@pytest.mark.parametrize(("text", "seconds"), [("100ms", 0.1), ("2.5 s", 2.5), ("80us", 8e-5)])
def test_durations_are_read(text, seconds) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


def test_numbers_are_written_for_people() -> None:
    assert format_size(937) == "937 B"
    assert format_size(96_788) == "94.5 KiB"
    assert format_size(320 * 1024, exact=True) == "320 KiB"
    assert format_size(1.25 * 1024**2) == "1.25 MiB"
    assert format_duration(0.155) == "155 ms"
    assert format_duration(0.0082) == "8.20 ms"
    assert format_duration(1.08) == "1.08 s"
    assert format_interval(0.203, 0.246) == "203–246 ms"
    assert format_count(47_434_557) == "47.43 M"
    assert format_count(937) == "937"
