"""The engines by name. Others add theirs with `[engines.NAME] factory = "module:function"` in their settings,
or, in a package that is installed, with an entry point in the group `tinyhil.engines`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any, TypeAlias

from tinyhil.errors import UsageError
from tinyhil.harness.engine import Engine

# Takes the user's [engines.NAME] table.
Factory: TypeAlias = Callable[[Mapping[str, Any]], Engine]


def _tinyengine(_: Mapping[str, Any]) -> Engine:
    from tinyhil.harness.tinyengine.engine import TinyEngine

    return TinyEngine()


def _tuned(_: Mapping[str, Any]) -> Engine:
    from tinyhil.harness.settings import load_settings
    from tinyhil.harness.tinyengine.costs import read_costs
    from tinyhil.harness.tinyengine.tuning import Tuned

    return Tuned(read_costs(load_settings(Path.cwd()).cache))


def _reference(_: Mapping[str, Any]) -> Engine:
    from tinyhil.harness.peers.reference import ReferenceEngine

    return ReferenceEngine()


def _cmsis_nn(table: Mapping[str, Any]) -> Engine:
    from tinyhil.harness.peers import cmsis_nn

    return cmsis_nn.create(table)


def _cmsis_nn_with_passes(table: Mapping[str, Any]) -> Engine:
    from tinyhil.harness.peers import cmsis_nn

    return cmsis_nn.create_with_passes(table)


def _tflm(table: Mapping[str, Any]) -> Engine:
    from tinyhil.harness.peers import tflm

    return tflm.create(table)


def _external(table: Mapping[str, Any]) -> Engine:
    from tinyhil.harness.peers import external

    return external.create(table)


BUILT_IN: dict[str, Factory] = {
    "tinyengine": _tinyengine,
    "tinyengine+tuned": _tuned,
    "reference": _reference,
    "cmsis-nn": _cmsis_nn,
    "cmsis-nn+passes": _cmsis_nn_with_passes,
    "tflm": _tflm,
    "external": _external,
}


@cache
def _third_party() -> EntryPoints:
    """Reading what is installed takes longer than a small measurement, so it is done once."""
    return entry_points(group="tinyhil.engines")


def engine_names() -> tuple[str, ...]:
    """Every engine that can be asked for."""
    return (*BUILT_IN, *(point.name for point in _third_party()))


def table_of(name: str, tables: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The user's `[engines.NAME]` table; a variant (`cmsis-nn+passes`) has that of what it varies."""
    return tables.get(name) or tables.get(name.split("+")[0], {})


def _of_the_user(name: str, words: str) -> Factory:
    """What `factory` names in the user's table: `module:function`, found in the project's folder too."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        factory: Factory = EntryPoint(name, words, "tinyhil.engines").load()
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"[engines.{name}] factory = {words!r} cannot be imported from {here} ({error}); "
            'it wants "module:function", see docs/engines.md'
        ) from error
    return factory


def get_engine(name: str, table: Mapping[str, Any] | None = None) -> Engine:
    """The engine called `name`, set up from its `[engines.NAME]` table; UsageError lists the known."""
    factory = BUILT_IN.get(name)
    for point in _third_party().select(name=name):
        factory = point.load()
    if table and "factory" in table:
        factory = _of_the_user(name, str(table["factory"]))
    if factory is None:
        raise UsageError(f"unknown engine {name!r}; known are {', '.join(engine_names())}")
    return factory(table or {})
