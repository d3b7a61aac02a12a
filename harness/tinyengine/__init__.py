"""TinyEngine: a network in, C that is specialised for it out. docs/engines.md describes the parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyhil.harness.tinyengine.engine import TinyEngine, schedule_graph


def create(table: Mapping[str, Any]) -> TinyEngine:
    """The engine as harness.engines finds it; it has no settings of its own."""
    del table
    return TinyEngine()


__all__ = ["TinyEngine", "create", "schedule_graph"]
