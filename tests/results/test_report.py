"""The report as text: complete, honest about kinds, escaped, self-contained and small."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.results.record import Correctness, Failure, PlannedBuffer
from tinyhil.results.reference import load_references
from tinyhil.results.report import BoardLimits, Candidate, SearchTrace, render_report
from tinyhil.results.report.memory import explain_peak, peak_layer
from tinyhil.results.report.search import front
from tinyhil.results.report.svg import byte_ticks, linear, log_ticks, logarithmic, shorten, ticks
from tinyhil.results.report.winners import median_lead, winners

ENGINES = ("tinyengine", "cmsis-nn", "tflm")


class Page(HTMLParser):
    """The page's tables as lists of rows of texts, and everything it would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.sortable: list[list[list[str]]] = []  # those of results; the others are figures' data
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._cell: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
            if dict(attributes).get("class") == "sortable":
                self.sortable.append(self.tables[-1])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1][-1].append(" ".join("".join(self._cell).split()))
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell.append(data + " ")


def summary(html: str) -> list[dict[str, str]]:
    head, *rows = Page(html).sortable[0]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_every_record_is_a_row_with_its_numbers(make) -> None:
    record = make(instructions=47_434_557, flash=532_200)
    (row,) = summary(render_report([record]))
    assert row["Network"].startswith("mlperf_kws")
    assert row["Instructions counted"].startswith("47.43 M")
    assert row["Flash"].startswith("519.7 KiB")
    assert row["Output"] == "bit-exact"


def test_measured_and_estimated_latency_are_two_columns(make) -> None:
    emulated, real = summary(render_report([make(), make(mode="hardware", board="zz")]))
    assert emulated["Latency measured"] == "–"
    assert "ms" in emulated["Latency estimated"]
    assert "ms" in real["Latency measured"]
    assert real["Latency estimated"] == "–"


def test_an_error_is_a_row_with_its_message_and_without_numbers(make) -> None:
    failed = make("big", error=Failure("DoesNotFit", "needs 96 KiB too much"))
    html = render_report([failed, make()])
    row = summary(html)[0]
    assert row["Output"] == "DoesNotFit"
    assert row["Instructions counted"] == "–"
    assert "needs 96 KiB too much" in html
    assert "1</strong> <span>run ended with an error" in html


def test_an_output_that_differs_is_never_called_exact(make) -> None:
    html = render_report([make(correct=Correctness(False, 3, "tflite-micro", "00"))])
    assert summary(html)[0]["Output"] == "differs by 3"
    assert "0 of 1" in html


def test_ratios_are_to_the_baseline_engine_of_the_same_network_board_and_mode(make) -> None:
    fast, slow = make(instructions=100), make(engine="tflm", instructions=900)
    other = make(engine="tflm", mode="native", instructions=5_000, cycles_est=None)
    rows = summary(render_report([fast, slow, other]))
    texts = {(r["Engine"].split()[0], r["Board"].split()[1]): r["Instructions counted"] for r in rows}
    assert "×9.00" in texts["tflm", "QEMU"]
    assert "×" not in texts["tinyengine", "QEMU"]
    assert "×" not in texts["tflm", "host"]


def test_who_wins_is_drawn_by_ratio_for_each_board_and_kind(make) -> None:
    fast, slow = make(instructions=100), make(engine="tflm", instructions=900)
    kits = make("te_vww", instructions=200), make("te_vww", "tflm", instructions=100)
    alone = make("digits", mode="hardware")
    figures = winners([fast, slow, *kits, alone], {"tinyengine": 0, "tflm": 1}, "tinyengine")
    (figure,) = figures
    assert figure.title == "Instructions, tinyengine = 1: stm32f746, QEMU"
    assert figure.kind == "counted"
    assert figure.rows == (("mlperf_kws", 1.0, 9.0), ("te_vww", 1.0, 0.5))
    assert "needs least in 1 of 2" in figure.note
    assert "×9.00" in figure.svg
    assert re.search('class="value lost"[^>]*>×0.500<', figure.svg)
    lead = median_lead([fast, slow, *kits], "tinyengine")
    assert lead is not None
    assert lead[0] == 4.75
    measured = [make(mode="hardware"), make(engine="tflm", mode="hardware")]
    assert median_lead([fast, slow, *measured], "tinyengine") is None  # two kinds have no common middle


def test_the_worst_possible_names_are_only_text(make) -> None:
    evil = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x00\x1b\u202e"
    record = make(evil, "<b>engine</b>")
    record = replace(
        record,
        layers=tuple(replace(layer, name=evil) for layer in record.layers),
        memory=tuple(replace(buffer, name="<script>") for buffer in record.memory),
        provenance={evil: evil},
        board=evil,
    )
    failed = replace(record, engine=replace(record.engine, name=evil), error=Failure(evil, evil))
    html = render_report([record, failed], history=[record, record], title=evil)
    page = Page(html)
    names = [tag for tag, _ in page.tags]
    assert names.count("script") == 1
    assert "img" not in names
    assert "b" not in names
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert not re.search("[\x00\x1b\u202e]", html)


def test_nothing_is_fetched_from_anywhere(make) -> None:
    html = render_report([make()], references=load_references(), history=[make(), make()])
    for tag, attributes in Page(html).tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name) or ""
            assert value.startswith("#") or value in ("", "data:,"), (tag, value)
    assert "@import" not in html
    assert "url(" not in html
    policies = [a.get("content") or "" for _, a in Page(html).tags if "http-equiv" in a]
    assert [policy.split(";")[0] for policy in policies] == ["default-src 'none'"]


def test_published_and_measured_rows_are_kept_apart(make) -> None:
    html = render_report([make("mcunet-vww1")], references=load_references())
    head, *rows = next(t for t in Page(html).tables if "Origin" in t[0])
    origins = {row[head.index("Origin")] for row in rows}
    assert origins == {"published", "measured earlier"}
    assert not any("×" in cell for row in rows for cell in row)
    assert len(summary(html)) == 1


def test_a_large_set_stays_under_two_megabytes_and_says_what_is_left_out(make) -> None:
    records = [
        make(f"net{n:02d}", engine, board, depth=60)
        for n in range(12)
        for engine in ENGINES
        for board in ("stm32f746", "stm32h743")
    ]
    html = render_report(records, references=load_references())
    assert len(html.encode()) <= 2_000_000
    assert "left out to keep the page under 2 MB" in html
    assert len(summary(html)) == len(records)


def test_a_picture_that_is_true_of_several_boards_is_drawn_once_and_names_them(make) -> None:
    records = [make(board=board) for board in ("stm32f405", "stm32f407", "stm32f746")]
    html = render_report(records)
    for subject in ("Instructions of each layer", "Memory over the layers: tinyengine"):
        assert html.count(f"<h3>{subject} on stm32f405, stm32f407, stm32f746, QEMU ") == 1
    layers = tuple(replace(layer, instructions=1 + (layer.instructions or 0)) for layer in records[2].layers)
    html = render_report([*records[:2], replace(records[2], layers=layers)])
    assert html.count("<h3>Instructions of each layer on stm32f405, stm32f407, QEMU ") == 1
    assert html.count("<h3>Instructions of each layer on stm32f746, QEMU ") == 1


def test_no_measurements_is_a_page_that_says_what_to_do() -> None:
    assert "tinyhil run MODEL" in render_report([])


def test_a_record_with_nothing_but_an_error_can_be_shown_alone(make) -> None:
    bare = make(
        error=Failure("BuildError", "no compiler"),
        instructions=None,
        cycles_est=None,
        peak_ram=None,
        flash=None,
        correct=None,
        layers=(),
        memory=(),
        samples=(),
        clock_hz=0,
    )
    assert "no compiler" in render_report([bare], limits={"stm32f746": BoardLimits(1, 1, 1.0)})


def test_the_same_records_give_the_same_page(make) -> None:
    records = [make(engine=e) for e in ENGINES]
    page = render_report(records, generated="now")
    assert page == render_report(records[::-1], generated="now")


def test_history_marks_a_step_in_per_cent(make) -> None:
    runs = [
        make(instructions=1_000_000 if n < 6 else 1_030_000, created=f"2026-11-{n + 1:02d}")
        for n in range(10)
    ]
    html = render_report(runs[-1:], history=runs)
    assert "10 runs; +3.00% on 2026-11-07." in html


class TestMemoryMap:
    BUFFERS = (
        PlannedBuffer("in", 0, 100, 0, 0, "input"),
        PlannedBuffer("a", 100, 300, 0, 1, "activation"),
        PlannedBuffer("scratch", 450, 50, 1, 1, "scratch"),
        PlannedBuffer("out", 0, 40, 1, 2, "output"),
    )

    def test_the_peak_is_the_layer_that_reaches_highest(self) -> None:
        assert peak_layer(self.BUFFERS) == 1

    def test_the_peak_is_explained_with_what_is_alive_and_what_lies_unused(self) -> None:
        words = explain_peak(self.BUFFERS, ("conv", "dw", "fc"))
        assert words == (
            "The arena is 500 B because of layer 1 (dw): alive then are a (300 B), scratch (50 B),"
            " out (40 B). 110 B of it lie unused at that moment."
        )

    def test_each_buffer_is_a_block(self, make) -> None:
        html = render_report([make(memory=self.BUFFERS)])
        for buffer in self.BUFFERS:
            assert f"{buffer.name}: {buffer.size} B at {buffer.offset}" in html
        assert html.count(' alive"><title>') == 3


class TestScales:
    @given(st.floats(1e-3, 1e12))
    def test_ticks_are_few_round_and_inside(self, high) -> None:
        for values in (ticks(high), byte_ticks(high)):
            assert values[0] == 0
            assert values[-1] <= high * (1 + 1e-6)
            assert 2 <= len(values) <= 7

    @given(st.floats(1e-6, 1e9), st.floats(1.01, 1e6))
    def test_logarithmic_ticks_lie_inside(self, low, ratio) -> None:
        assert all(low <= tick <= low * ratio * (1 + 1e-6) for tick in log_ticks(low, low * ratio))

    @given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
    def test_scales_hit_both_ends(self, low, span) -> None:
        scale = linear(low, low + span, 10, 500)
        assert scale(low) == pytest.approx(10)
        assert scale(low + span) == pytest.approx(500)
        scale = logarithmic(span, span * 8, 10, 500)
        assert scale(span * 8) == pytest.approx(500)

    @settings(max_examples=50)
    @given(st.text(max_size=60), st.integers(5, 30))
    def test_shortened_texts_fit_and_keep_their_ends(self, text, limit) -> None:
        short = shorten(text, limit)
        assert len(short) <= limit
        if len(text) <= limit:
            assert len(short) == len(text)


class TestSearch:
    CANDIDATES = (
        Candidate("a", 0.90, 1_000_000),
        Candidate("b", 0.94, 3_000_000),
        Candidate("c", 0.92, 4_000_000),
        Candidate("<script>", 0.97, 9_000_000),
    )

    def test_the_front_holds_what_nothing_beats(self) -> None:
        assert [c.name for c in front(self.CANDIDATES)] == ["a", "b", "<script>"]

    @given(
        st.lists(st.builds(Candidate, st.text(max_size=3), st.floats(0, 1), st.floats(1, 1e9)), max_size=30)
    )
    def test_no_candidate_beats_one_on_the_front(self, candidates) -> None:
        for winner in front(candidates):
            better = [c for c in candidates if c.cost <= winner.cost and c.accuracy >= winner.accuracy]
            assert all((c.cost, c.accuracy) == (winner.cost, winner.accuracy) for c in better)

    def test_progress_counts_only_what_keeps_the_budget(self, make) -> None:
        trace = SearchTrace("digits", "instructions", self.CANDIDATES, limit=5_000_000)
        html = render_report([make()], searches=[trace])
        assert "4 candidates, 3 within the budget; the best reaches 94.00%." in html
        assert "3 of 4 candidates are on the front; the most accurate is &lt;script&gt; with 97.00%." in html

    def test_a_search_without_candidates_or_with_one_is_no_problem(self, make) -> None:
        for count in (0, 1):
            trace = SearchTrace("digits", "cycles_est", self.CANDIDATES[:count])
            assert "Results" in render_report([make()], searches=[trace])

    def test_a_cost_that_is_no_metric_is_refused(self) -> None:
        with pytest.raises(UsageError, match="joules"):
            SearchTrace("digits", "joules", ())
