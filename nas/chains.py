"""Chains of layers whose options are known: in memory, on disk, or asked of the engine once.

The networks of a search share most of their chains. So the options of each chain are asked of the engine
once (prices.py); a store keeps them for other runs, and a crew works out many unknown ones at a time. The
answer is the same whoever gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tinyhil.harness.tinyengine.choose import PER_BYTE
from tinyhil.harness.tinyengine.paths import Row
from tinyhil.nas.arch import Arch, layers
from tinyhil.nas.prices import Conditions, Engine, Found, Span, spans, spots

_BETWEEN = " > "  # layers of a chain, in its text


@dataclass(frozen=True)
class Task:
    """Chains of one network: the text that names each, and its span."""

    arch: Arch
    spans: Mapping[str, Span]


class Store(Protocol):
    """Keeps the options of chains, by the chain's text."""

    def known(self, chains: Sequence[str]) -> set[str]:
        """Those of `chains` that it has."""
        ...

    def get(self, chains: Sequence[str]) -> Mapping[str, Found]:
        """The options of those that it has."""
        ...

    def put(self, found: Mapping[str, Found]) -> None:
        """Keep these."""
        ...


class Chains:
    """The options of chains: known ones from memory or `store`, others from the engine."""

    def __init__(self, conditions: Conditions, store: Store | None = None) -> None:
        self.conditions = conditions
        self.store = store
        self._engine = Engine(conditions)
        self._short: dict[str, int] = {}  # a spot -> a short name for it
        self._known: dict[tuple[int, ...], Found] = {}
        self._kept: set[str] = set()  # in the store, or about to be
        self._rows: dict[tuple[int, tuple[int, ...]], Row] = {}  # by place: what starts at a layer

    def __len__(self) -> int:
        return len(self._known)

    def table(self, arch: Arch) -> list[Row]:
        """The options of each layer of `arch`, of all chains that start with it."""
        every = layers(arch)
        names = self._names(spots(every))
        ends = spans(every, self.conditions.longest)
        keys = [(first, tuple(names[first : after[-1]])) for first, after in enumerate(ends)]
        if any(key not in self._rows for key in keys):
            self.learn(self.unknown([arch]))
        return [self._row(*key) for key in keys]

    def unknown(self, archs: Iterable[Arch]) -> list[Task]:
        """The chains of `archs` that are not in memory, each once."""
        seen: set[str] = set()
        tasks = []
        for arch in archs:
            every = layers(arch)
            texts = spots(every)
            names = self._names(texts)
            rows = {
                _BETWEEN.join(texts[first:after]): (first, after)
                for first, ends in enumerate(spans(every, self.conditions.longest))
                for after in ends
                if tuple(names[first:after]) not in self._known
            }
            fresh = {text: span for text, span in rows.items() if text not in seen}
            if fresh:
                seen |= fresh.keys()
                tasks.append(Task(arch, fresh))
        return tasks

    def missing(self, archs: Iterable[Arch]) -> list[Task]:
        """The chains of `archs` that neither memory nor the store has; each is told once."""
        tasks = self.unknown(archs)
        texts = [text for task in tasks for text in task.spans if text not in self._kept]
        gone = set(texts) - (self.store.known(texts) if self.store is not None else set())
        self._kept.update(texts)
        left = [Task(task.arch, {t: s for t, s in task.spans.items() if t in gone}) for task in tasks]
        return [task for task in left if task.spans]

    def learn(self, tasks: Sequence[Task]) -> None:
        """Know the chains of `tasks`: read them from the store, or ask the engine and keep the answers."""
        for task in tasks:
            kept = self.store.get(list(task.spans)) if self.store is not None else {}
            rest = {text: span for text, span in task.spans.items() if text not in kept}
            asked = dict(zip(rest, self._engine(task.arch, list(rest.values())), strict=True)) if rest else {}
            if asked and self.store is not None:
                self.store.put(asked)
            for text, found in (*kept.items(), *asked.items()):
                self._known[tuple(self._names(text.split(_BETWEEN)))] = found

    def _names(self, texts: Sequence[str]) -> list[int]:
        return [self._short.setdefault(text, len(self._short)) for text in texts]

    def _row(self, first: int, key: tuple[int, ...]) -> Row:
        """The options of all chains that begin as `key` does, starting at layer `first`."""
        if (first, key) not in self._rows:
            options = (
                replace(option, first=first, after=first + option.after)
                for after in range(1, len(key) + 1)
                for option in self._known[key[:after]]
            )
            self._rows[first, key] = Row(options, PER_BYTE[self.conditions.options.prefer])
        return self._rows[first, key]
