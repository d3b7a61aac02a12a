"""The plan file of a sweep, and the ordered work items that it stands for. Pure, but for `read_plan`.

networks = ["models/*.tflite"]          # files, folders or patterns, relative to the plan
boards = ["stm32f746", "stm32f412"]
engines = ["tinyengine", "reference"]

[layers]                                # seeded networks of one layer each
kinds = ["Conv2D", "Add"]
count = 125                             # of each kind
seed = 0                                # of the first

[[options]]                             # one table per set of flags; none: the defaults
prefer = "ram"
without = ["overlap"]
float_io = true
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from tinyhil.errors import UsageError
from tinyhil.harness.engine import Options
from tinyhil.harness.model.random_graphs import LAYERS

_KEYS = {"networks", "boards", "engines", "layers", "options"}
_PREFERENCES = ("speed", "ram", "flash")


@dataclass(frozen=True, order=True)
class Source:
    """Where a network comes from: a file, or a seeded layer of `kind`."""

    path: str = ""
    kind: str = ""
    seed: int = 0

    def __str__(self) -> str:
        return self.path or f"{self.kind.lower()}_{self.seed}"


@dataclass(frozen=True)
class Item:
    """One row of the sweep's table."""

    source: Source
    engine: str
    board: str
    options: Options

    def __str__(self) -> str:
        return " ".join((Path(str(self.source)).stem, self.engine, self.board, *self._flags()))

    def _flags(self) -> list[str]:
        options = self.options
        words = [f"prefer={options.prefer}"] if options.prefer != "speed" else []
        words += ["float-io"] if options.float_io else []
        return words + [f"without={name}" for name in sorted(options.disabled)]

    @property
    def key(self) -> str:
        """A hash of what is asked: the same in every process, and independent of the other items."""
        text = "\n".join((str(self.source), self.engine, self.board, *self._flags()))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """What PLAN.toml says; `networks` are words that still have to be looked up on the disk."""

    networks: tuple[str, ...]
    layers: tuple[Source, ...]
    boards: tuple[str, ...]
    engines: tuple[str, ...]
    options: tuple[Options, ...]

    def items(self, files: Sequence[Path]) -> tuple[Item, ...]:
        """Every combination, networks outermost, so that one reference output serves many rows."""
        sources = (*(Source(str(file)) for file in files), *self.layers)
        rows = product(sources, self.boards, self.engines, self.options)
        return tuple(Item(source, engine, board, flags) for source, board, engine, flags in rows)


def subset(items: Sequence[Item], part: int, parts: int) -> tuple[Item, ...]:
    """Part 1…`parts` of the items, in their order. Dealt out by hash: no part gets all of one engine."""
    dealt = sorted(items, key=lambda item: item.key)[part - 1 :: parts]
    mine = set(dealt)
    return tuple(item for item in items if item in mine)


def parse_subset(words: str) -> tuple[int, int]:
    """`2/8` as (2, 8); UsageError unless 1 ≤ 2 ≤ 8."""
    part, slash, parts = words.partition("/")
    if slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts):
        return int(part), int(parts)
    raise UsageError(f"--subset {words!r}: write PART/PARTS, such as 1/4 for the first of four")


def parse_plan(table: Mapping[str, Any], name: str) -> Plan:
    """The plan in `table`; UsageError names the key of the file `name` that is wrong."""
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise UsageError(f"{name}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
    networks = _words(table, "networks", name)
    layers = _layers(table.get("layers", {}), name)
    if not networks and not layers:
        raise UsageError(f"{name}: nothing to measure; give networks = [...] or a table [layers]")
    boards = _words(table, "boards", name)
    if not boards:
        raise UsageError(f"{name}: which board? boards = [...]; `tinyhil boards` lists them")
    rows = table.get("options", [{}])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{name}: write options as [[options]] tables")
    options = tuple(dict.fromkeys(_options(row, name) for row in rows)) or (Options(),)
    return Plan(networks, layers, boards, _words(table, "engines", name) or ("tinyengine",), options)


def read_plan(path: Path) -> tuple[Plan, tuple[Path, ...]]:
    """The plan at `path`, and the model files that it names; UsageError says what is wrong."""
    try:
        plan = parse_plan(tomllib.loads(path.read_text(encoding="utf-8")), path.name)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    found = [file for word in plan.networks for file in _files(path.parent, word)]
    return plan, tuple(dict.fromkeys(found))


def _files(folder: Path, word: str) -> list[Path]:
    place = folder / word
    if place.is_file():
        return [place]
    if place.is_dir():
        found = sorted(place.glob("*.tflite"))
    else:  # a pattern; glob wants it relative
        root = Path(place.anchor) if Path(word).is_absolute() else folder
        found = sorted(root.glob(str(place.relative_to(root))))
    if not found:
        raise UsageError(f"networks: nothing matches {word!r} in {folder.resolve()}")
    return found


def _words(table: Mapping[str, Any], key: str, name: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
        raise UsageError(f"{name}: {key} must be a list of texts, not {value!r}")
    return tuple(dict.fromkeys(value))


def _layers(table: Any, name: str) -> tuple[Source, ...]:
    if not table:
        return ()
    if not isinstance(table, dict) or set(table) - {"kinds", "count", "seed"}:
        raise UsageError(f"{name}: [layers] takes kinds, count and seed")
    kinds = _words(table, "kinds", name) or tuple(LAYERS)
    wrong = [kind for kind in kinds if kind not in LAYERS]
    if wrong:
        raise UsageError(f"{name}: there is no layer {wrong[0]!r}; known are {', '.join(LAYERS)}")
    count, seed = table.get("count", 1), table.get("seed", 0)
    if not all(type(number) is int for number in (count, seed)) or count < 1 or seed < 0:
        raise UsageError(f"{name}: [layers] count must be 1 or more, and seed 0 or more")
    return tuple(Source(kind=kind, seed=s) for s in range(seed, seed + count) for kind in kinds)


def _options(row: Mapping[str, Any], name: str) -> Options:
    unknown = sorted(set(row) - {"prefer", "without", "float_io"})
    if unknown:
        raise UsageError(f"{name}: unknown option {unknown[0]!r}; known are prefer, without, float_io")
    prefer, float_io = row.get("prefer", "speed"), row.get("float_io", False)
    if prefer not in _PREFERENCES or not isinstance(float_io, bool):
        raise UsageError(f"{name}: prefer is one of {', '.join(_PREFERENCES)}; float_io is true or false")
    return Options(prefer, float_io, frozenset(_words(row, "without", name)))
