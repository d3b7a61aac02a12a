"""The pull-request summary names what failed, shows the table, and executes nothing."""

from __future__ import annotations

from dataclasses import replace

from tinyhil.results.compare import compare
from tinyhil.results.gates import parse_rules
from tinyhil.results.markdown import escape, summary_markdown
from tinyhil.results.record import Failure


def test_the_verdict_comes_first_and_every_failed_gate_says_why(make) -> None:
    steps = list(make().layers)
    steps[3] = replace(steps[3], instructions=steps[3].instructions + 500)
    head = replace(make(), layers=tuple(steps), instructions=make().instructions + 500)
    findings = compare([head], [make()], parse_rules("instructions:0,flash:0"))
    first, *rest = summary_markdown([head], findings).splitlines()
    assert first == "### tinyhil: 1 measurements, 1 of 2 gates failed"
    assert "+500" in rest[1]
    assert escape(steps[3].name) in rest[2]


def test_passed_gates_and_errors_are_said(make) -> None:
    bad = make("big", error=Failure("DoesNotFit", "too big"))
    findings = compare([make()], [make()], parse_rules("flash:0"))
    first = summary_markdown([make(), bad], findings).splitlines()[0]
    assert first == "### tinyhil: 2 measurements, 1 with an error, all 1 gates passed"


def test_the_table_has_one_line_per_record_and_equal_columns(make) -> None:
    lines = [x for x in summary_markdown([make(), make("vww", "tflm")]).splitlines() if x.startswith("|")]
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert "Latency (estimated)" in lines[0]


def test_names_cannot_become_markup(make) -> None:
    evil = "a|b `x` <img src=x> [y](http://z) @all *b*\nnext"
    text = summary_markdown([make(evil)])
    row = [line for line in text.splitlines() if line.startswith("|")][2]
    for markup in ("<img", "[y](", "@all", " *b*", "a|b", " `x`"):
        assert markup not in row


def test_no_records_are_a_summary_too() -> None:
    assert summary_markdown([]).startswith("### tinyhil: 0 measurements")
