"""The engines by name. Third parties add theirs with an entry point in the group `tinyhil.engines`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, cast

from tinyhil.errors import UsageError
from tinyhil.harness.engine import Engine

# name -> "module:factory"; a factory takes the user's [engines.NAME] table
BUILT_IN = {
    "tinyengine": "tinyhil.harness.tinyengine:create",
    "reference": "tinyhil.harness.peers.reference:create",
}


def engine_names() -> tuple[str, ...]:
    """Every engine that can be asked for."""
    return (*BUILT_IN, *(point.name for point in entry_points(group="tinyhil.engines")))


def get_engine(name: str, table: Mapping[str, Any] | None = None) -> Engine:
    """The engine called `name`, set up from its `[engines.NAME]` table; UsageError lists the known."""
    for point in entry_points(group="tinyhil.engines", name=name):
        return cast(Engine, point.load()(table or {}))
    if name not in BUILT_IN:
        raise UsageError(f"unknown engine {name!r}; known are {', '.join(engine_names())}")
    module, factory = BUILT_IN[name].split(":")
    create = cast(Callable[[Mapping[str, Any]], Engine], getattr(import_module(module), factory))
    return create(table or {})
