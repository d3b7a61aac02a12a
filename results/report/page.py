"""Joins view, template, style and script into one HTML page that needs nothing from outside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tinyhil.results.record import Measurement
from tinyhil.results.reference.loader import Reference, references_for
from tinyhil.results.report.contest import ordered
from tinyhil.results.report.search import SearchTrace, search_figures
from tinyhil.results.report.svg import clean
from tinyhil.results.report.tables import results_table
from tinyhil.results.report.view import (
    BoardLimits,
    Network,
    engine_colours,
    headline,
    network_view,
    overview_figures,
    tiles,
)
from tinyhil.results.report.winners import winners

LARGEST = 2_000_000
"""Bytes of the whole page. What would not fit is left out, and the page says so."""


def render_report(
    measurements: Iterable[Measurement],
    *,
    references: Sequence[Reference] = (),
    history: Sequence[Measurement] = (),
    limits: Mapping[str, BoardLimits] | None = None,
    searches: Sequence[SearchTrace] = (),
    baseline: str = "tinyengine",
    title: str = "Measurements",
    generated: str = "",
) -> str:
    """The report as HTML text (UTF-8, at most 2 MB).

    `measurements`: one record per network × engine × board × mode (`Store.latest`). `references`:
    `load_references()`. `history`: older and newer records of the same subjects (`Store.query`);
    steps in them are marked. `limits`: each board's RAM, flash and ceiling. `searches`: progress and
    front of searches. `baseline`: the engine whose ratio is 1. `generated`: UTC time in the header,
    now if empty.
    """
    records = ordered(list(measurements), baseline)
    colours = engine_colours([*records, *history], baseline)
    limits = limits or {}
    networks = [
        network_view(
            [r for r in records if r.model.name == name],
            references_for(name, references),
            [r for r in history if r.model.name == name],
            colours,
            limits,
            baseline,
        )
        for name in dict.fromkeys(r.model.name for r in records)
    ]
    content = {
        "title": title,
        "generated": generated or datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "tiles": tiles(records, baseline),
        "headline": headline(records),
        "summary": results_table(records, "All results", baseline, network=True) if records else None,
        "winners": winners(records, colours, baseline),
        "overview": overview_figures(records, colours, limits),
        "searches": [figure for trace in searches for figure in search_figures(trace)],
        "baseline": baseline,
        "style": Markup(_file("style.css")),
        "figure_style": Markup(_file("figures.css")),
        "script": Markup(_file("page.js")),
        "policy": _policy(),
    }
    return _render_within(LARGEST, content, networks)


def _render_within(limit: int, content: Mapping[str, object], networks: Sequence[Network]) -> str:
    """The page with as many networks' figures as fit, those of the first networks first."""
    template = _environment().from_string(_file("page.html.j2"))
    figures = template.make_module(dict(content, networks=[])).figures  # type: ignore[attr-defined]
    shown = [replace(network, figures=(), trimmed=bool(network.figures)) for network in networks]
    room = limit - len(template.render(content, networks=shown).encode()) - 1000
    for index, network in enumerate(networks):
        size = len(figures(network.figures).encode())
        if size <= room:
            shown[index], room = network, room - size
    return template.render(content, networks=shown).lstrip()


def _policy() -> str:
    """Content security policy: only this page's own script and styles, nothing from outside."""
    digest = base64.b64encode(hashlib.sha256(_file("page.js").encode()).digest()).decode()
    return f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"


@cache
def _file(name: str) -> str:
    return (resources.files(__package__) / name).read_text("utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
