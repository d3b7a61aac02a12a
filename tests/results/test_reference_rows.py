"""The rows from elsewhere are complete, attributed, and never taken for ours."""

from __future__ import annotations

import pytest

from tinyhil.results.reference import load_references, references_for

ROWS = load_references()


def test_every_row_says_where_it_comes_from() -> None:
    for row in ROWS:
        assert row.origin in ("published", "measured earlier")
        assert row.source
        assert row.date[:2] == "20"
        assert row.core.startswith("cortex-m")


def test_every_row_has_a_number_or_says_why_not() -> None:
    for row in ROWS:
        assert row.outcome or row.latency_s or row.instructions, row


def test_published_rows_have_times_and_rows_measured_earlier_have_counts() -> None:
    for row in ROWS:
        assert (row.instructions is None) == (row.origin == "published")
        assert row.latency_s is None or row.origin == "published"


def test_rows_are_not_given_twice() -> None:
    assert len(set(ROWS)) == len(ROWS)


@pytest.mark.parametrize(
    ("network", "engine", "where", "latency_ms", "ram_kib"),
    [
        ("mcunet-vww1", "tinyengine (MIT)", "stm32h743", 51, 92),
        ("mcunet-in4", "x-cube-ai", "stm32h743", 516, 342),
        ("mbv2-w0.3-r80", "plumerai", "stm32f746", 77, 80),
        ("mbv2-w0.35-r64", "cmsis-nn", "stm32f746", 149, 217),
    ],
)
def test_known_figures(network, engine, where, latency_ms, ram_kib) -> None:
    rows = [r for r in references_for(network, ROWS) if (r.engine, r.board) == (engine, where)]
    assert [(r.latency_s, r.peak_ram) for r in rows] == [(latency_ms / 1000, ram_kib * 1024)]


def test_mlperf_has_four_networks_per_submission() -> None:
    rows = [r for r in ROWS if r.source == "MLPerf Tiny"]
    assert len(rows) % 4 == 0
    best = min(r.latency_s for r in rows if r.network == "mlperf_ic" and r.board == "stm32f746")
    assert best == pytest.approx(0.0616)


def test_counts_per_mac_are_plausible_for_the_core() -> None:
    for row in ROWS:
        if row.instructions and row.macs:
            assert 1.5 < row.instructions / row.macs < 30


def test_networks_with_two_names_are_found_under_both() -> None:
    assert references_for("te_vww", ROWS) == references_for("mcunet-vww1", ROWS)
    assert references_for("unheard-of", ROWS) == []
