"""Kernels chosen by what they cost when they ran, not by what their code promises.

The candidates that look best are put together to whole networks, as many of them in each as it has layers;
every network is measured like any other, and each layer's cost is remembered under a key of everything that
it depends on: the shapes, the variant, this generator, the compiler and its flags, the board. Among the
candidates with known costs the choice is made as ever, with these costs in place of estimates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tinyhil.harness.boards import Board
from tinyhil.harness.build.toolchain import toolchain_for
from tinyhil.harness.engine import Options, Sources
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.tinyengine.choose import choices_of, rows_of
from tinyhil.harness.tinyengine.engine import candidate_table, refuse_if_too_big, sources_of
from tinyhil.harness.tinyengine.lowering import Program
from tinyhil.harness.tinyengine.paths import Option, shortest
from tinyhil.harness.tinyengine.schedule import Choice, Schedule, arrange_smallest
from tinyhil.harness.tinyengine.work import GraphWork, Work

NAME = "tinyengine+tuned"
_MODES = ("hardware", "qemu", "unicorn", "renode")  # whose costs count, the best first
_NEAR = 1.5  # candidates that seem more expensive than this many times the cheapest are not tried


@cache
def _generator() -> str:
    """A digest of all that makes code: a change of it is a change of every variant."""
    here = Path(__file__).parent
    templates = here.parents[1] / "firmware_templates" / "kernels"
    files = [*here.rglob("*.py"), *(here / "asm" / "c").iterdir(), *templates.iterdir()]
    digest = hashlib.sha256()
    for file in sorted(f for f in files if f.is_file()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@cache
def conditions(board: Board, mode: str) -> str:
    """What every cost on `board` depends on beside the layer; `mode` is that of the target."""
    tools = toolchain_for(board)
    return " ".join((board.name, mode, tools.version, *tools.machine, *tools.compile, "-O2", _generator()))


def _shape(work: Work) -> str:
    """A layer without its numbers: what decides how long it takes."""
    if isinstance(work, GraphWork):
        tensors = [work.graph.tensors[i] for i in (*work.op.inputs, *work.op.outputs) if i >= 0]
        return f"{work.op.spec!r} {[(t.shape, t.dtype.value) for t in tensors]}"
    return _plain(work)


def _plain(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return str(value.shape)
    if is_dataclass(value):
        return f"({' '.join(f'{f.name}={_plain(getattr(value, f.name))}' for f in fields(value))})"
    return repr(value)


@dataclass(frozen=True, eq=False)
class Space:
    """All candidates of a network on a board, and the costs that are known, in cycles by key."""

    program: Program
    table: Sequence[Sequence[Option]]
    budget: int
    options: Options
    conditions: str
    costs: Mapping[str, float]
    keys: dict[int, str] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(graph: Graph, board: Board, options: Options, mode: str, costs: Mapping[str, float]) -> Space:
        """The candidates for `graph`; costs under other conditions are not found."""
        return Space(*candidate_table(graph, board, options), options, conditions(board, mode), costs)

    def key(self, option: Option) -> str:
        """Equal for options that would run equally long."""
        if id(option) not in self.keys:
            c = option.candidate
            works = "; ".join(_shape(s.work) for s in self.program.steps[option.first : option.after])
            text = f"{self.conditions} | {works} | {c.kernel} {c.scratch} {c.flash} {sorted(c.shared)}"
            self.keys[id(option)] = hashlib.sha256(text.encode()).hexdigest()[:24]
        return self.keys[id(option)]

    @property
    def network(self) -> str:
        """The key under which it is remembered that the choice by costs is no better than the default."""
        works = "; ".join(_shape(s.work) for s in self.program.steps)
        return hashlib.sha256(f"{self.conditions} | {self.options} | {works}".encode()).hexdigest()[:24]

    def default(self) -> list[Option]:
        """The options that are taken without any cost known."""
        return self._chosen(self.table, self.budget)

    def _chosen(self, table: Sequence[Sequence[Option]], budget: int) -> list[Option]:
        prefer = self.options.prefer
        return self._path(choices_of(rows_of(table, prefer), prefer, budget)[0])

    def _path(self, choices: Sequence[Choice]) -> list[Option]:
        found = {id(o.candidate): o for here in self.table for o in here}
        return [found[id(choice.candidate)] for choice in choices]

    def rounds(self, top: int, most: int) -> list[list[Option]]:
        """Whole networks to measure, the default first: each of the `top` best candidates of every chain
        occurs in one of them unless its cost is known, or `most` networks do not suffice."""
        default = self.default()
        wanted = {self.key(o) for here in self.table for o in self._best(here, top)}
        wanted = wanted - self.costs.keys() - {self.key(o) for o in default}
        paths = [default]
        while wanted and len(paths) < most:
            table = [
                [replace(o, instructions=-1 if self.key(o) in wanted else 0, flash=0) for o in here]
                for here in self.table
            ]
            path = shortest(table, self.budget, 0)
            assert path is not None
            own = self._path([Choice((), o.candidate) for o in path])
            covered = {self.key(o) for o in own} & wanted
            if not covered:
                break
            wanted -= covered
            paths.append(own)
        return paths

    def _best(self, here: Sequence[Option], top: int) -> list[Option]:
        """The cheapest few of each chain that starts at one step, by their estimates."""
        best: list[Option] = []
        for after in sorted({o.after for o in here}):
            fits = [o for o in here if o.after == after and o.memory <= self.budget]
            same = sorted(fits, key=lambda o: o.instructions)
            best += [o for o in same[:top] if o.instructions <= _NEAR * same[0].instructions]
        return best

    def tuned(self) -> list[Option] | None:
        """The choice among options whose costs are known and that need no more memory than the default's;
        None where they do not make a network, or where it is known to be no better than the default."""
        if self.network in self.costs:
            return None
        known = [
            [replace(o, instructions=round(self.costs[k])) for o in here if (k := self.key(o)) in self.costs]
            for here in self.table
        ]
        enough = max(o.memory for o in self.default())
        if shortest(known, enough, 0) is None:
            return None
        known = [[o for o in here if o.memory <= enough] for here in known]
        return self._chosen(known, enough)

    def schedule(self, path: Sequence[Option]) -> Schedule:
        """Everything in its place."""
        choices = [Choice(tuple(range(o.first, o.after)), o.candidate) for o in path]
        return arrange_smallest(self.program, [choices], "overlap" not in self.options.disabled)


@dataclass(eq=False)
class Planned:
    """An engine that emits one schedule, whatever it is asked for."""

    schedule: Schedule
    name: str = NAME

    def generate(self, graph: Graph, board: Board, options: Options) -> Sources:
        """The schedule as C."""
        refuse_if_too_big(self.schedule, board)
        return sources_of(self.schedule, board, options, self.name)


@dataclass(eq=False)
class Tuned:
    """TinyEngine with the costs that `tinyhil tune` has measured; the default where it has not."""

    costs: Mapping[str, float]
    name: str = NAME

    def generate(self, graph: Graph, board: Board, options: Options) -> Sources:
        """The network as C; UnsupportedOperator or DoesNotFit before anything is built."""
        space = Space.of(graph, board, options, _MODES[0], self.costs)
        found = (
            replace(space, conditions=conditions(board, mode), keys={}).tuned()
            for mode in (("native",) if board.is_native else _MODES)
        )
        path = next((path for path in found if path is not None), None)
        return Planned(space.schedule(path or space.default())).generate(graph, board, options)
