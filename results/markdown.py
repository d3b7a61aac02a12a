"""A summary for a pull request: what failed and why, then the table. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tinyhil.results.compare import Finding
from tinyhil.results.record import Measurement
from tinyhil.results.report.contest import ordered
from tinyhil.results.report.svg import clean
from tinyhil.results.report.tables import Cell, results_table


def summary_markdown(
    records: Sequence[Measurement], findings: Sequence[Finding] = (), *, baseline: str = "tinyengine"
) -> str:
    """GitHub's and GitLab's Markdown: the verdict, each failed gate with its reason, and all records.

    Names from model files are escaped.
    """
    failed = [finding for finding in findings if finding.failed]
    lines = [f"### tinyhil: {_verdict(records, findings, failed)}", ""]
    for finding in failed:
        first, *rest = finding.message().splitlines()
        lines += [f"- **{escape(first)}**", *(f"  - {escape(line.strip())}" for line in rest)]
    others = [f for f in findings if not f.failed and f.status not in ("ok", "gone")]
    lines += [f"- {escape(finding.message().splitlines()[0])}" for finding in others]
    lines += ["", *_table(ordered(records, baseline), baseline), ""] if records else [""]
    return "\n".join(lines)


def _verdict(records: Sequence[Measurement], findings: Sequence[Finding], failed: Sequence[Finding]) -> str:
    failures = [record.error for record in records if record.error is not None]
    untried = sum(failure.untried for failure in failures)
    errors = len(failures) - untried
    words = [f"{len(records) - untried} measurements"]
    words += [f"{errors} with an error"] if errors else []
    words += [f"{untried} not run"] if untried else []
    words += [f"{len(failed)} of {len(findings)} gates failed"] if failed else []
    words += [f"all {len(findings)} gates passed"] if findings and not failed else []
    return ", ".join(words)


def _table(records: Sequence[Measurement], baseline: str) -> list[str]:
    table = results_table(records, "", baseline, network=True)
    heads = [f"{c.title} ({c.kind})" if c.kind else c.title for c in table.columns]
    rule = ["--:" if c.numeric else ":--" for c in table.columns]
    return [_line(heads), _line(rule), *(_line([_cell(c) for c in row]) for row in table.rows)]


def _cell(cell: Cell) -> str:
    words = escape(cell.words)
    words = f"**{words}**" if cell.look in ("best", "bad") else words
    return f"{words}<br><sub>{escape(cell.note)}</sub>" if cell.note else words


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """`text` as Markdown that shows it as it is: no links, mentions, tags, emphasis or table cells."""
    plain = clean(text).replace("\n", " ").replace("&", "&amp;").replace("<", "&lt;").replace("@", "&#64;")
    return re.sub(r"([\\`*_{}\[\]()#!|~>])", r"\\\1", plain)
