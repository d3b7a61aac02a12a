"""Chains of layers whose options are known: in memory, on disk, or asked of the engine once.

The networks of a search share most of their chains. So the options of each chain are asked of the engine
once (prices.py), and a store keeps them for other processes and runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tinyhil.harness.tinyengine.choose import PER_BYTE
from tinyhil.harness.tinyengine.paths import Row
from tinyhil.nas.arch import Arch, layers
from tinyhil.nas.prices import Conditions, Engine, Found, Span, spans, spots

_BETWEEN = " > "  # layers of a chain, in its text


class Store(Protocol):
    """Keeps the options of chains, by the chain's text."""

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
            self._learn(arch)
        return [self._row(*key) for key in keys]

    def unknown(self, arch: Arch) -> dict[str, Span]:
        """The chains of `arch` that are not in memory: the text of each, and its span."""
        every = layers(arch)
        texts = spots(every)
        names = self._names(texts)
        return {
            _BETWEEN.join(texts[first:after]): (first, after)
            for first, ends in enumerate(spans(every, self.conditions.longest))
            for after in ends
            if tuple(names[first:after]) not in self._known
        }

    def _learn(self, arch: Arch) -> None:
        """Know all chains of `arch`: read them from the store, or ask the engine and keep the answers."""
        wanted = self.unknown(arch)
        kept = self.store.get(list(wanted)) if self.store is not None else {}
        rest = {text: span for text, span in wanted.items() if text not in kept}
        asked = dict(zip(rest, self._engine(arch, list(rest.values())), strict=True)) if rest else {}
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
                option.starting_at(first)
                for after in range(1, len(key) + 1)
                for option in self._known[key[:after]]
            )
            self._rows[first, key] = Row(options, PER_BYTE[self.conditions.options.prefer])
        return self._rows[first, key]
