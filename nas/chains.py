"""Chains of layers whose options are known: in memory, on disk, or asked of the engine once.

The networks of a search share most of their chains. So the options of each chain are asked of the engine
once (prices.py); a store keeps them for other runs, and a crew works out many unknown ones at a time. The
answer is the same whoever gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tinyhil.harness.tinyengine.choose import Option
from tinyhil.nas.arch import Arch, layers
from tinyhil.nas.prices import Conditions, Engine, Found, Span, spans, spots

_BETWEEN = " > "  # layers of a chain, in its text


@dataclass(frozen=True)
class Task:
    """Chains of one network that are not known, and the text that names each."""

    arch: Arch
    spans: tuple[Span, ...]
    texts: tuple[str, ...]


class Store(Protocol):
    """Keeps the options of chains, by the chain's text."""

    def get(self, chains: Sequence[str]) -> Mapping[str, Found]:
        """Those of `chains` that are known."""
        ...

    def put(self, found: Mapping[str, Found]) -> None:
        """Keep these."""
        ...


Ask = Callable[[Sequence[Task]], Iterable[Sequence[Found]]]


class Chains:
    """The options of chains: known ones from memory or `store`, others from the engine."""

    def __init__(self, conditions: Conditions, store: Store | None = None) -> None:
        self.conditions = conditions
        self._store = store
        self._engine = Engine(conditions)
        self._short: dict[str, int] = {}  # a spot -> a short name for it
        self._known: dict[tuple[int, ...], Found] = {}
        self._rows: dict[tuple[int, tuple[int, ...]], list[Option]] = {}  # by place: what starts at a layer

    def __len__(self) -> int:
        return len(self._known)

    def table(self, arch: Arch) -> list[Sequence[Option]]:
        """The options of each layer of `arch`, of all chains that start with it."""
        every = tuple(layers(arch))
        names = self._names(spots(every))
        ends = spans(every, self.conditions.longest)
        keys = [(first, tuple(names[first : after[-1]])) for first, after in enumerate(ends)]
        if any(key not in self._rows for key in keys):
            self.learn(self.unknown([arch]))
        return [self._row(*key) for key in keys]

    def unknown(self, archs: Iterable[Arch]) -> list[Task]:
        """The chains of `archs` that neither memory nor store knows, each once."""
        wanted: dict[str, tuple[Arch, Span]] = {}
        for arch in archs:
            every = tuple(layers(arch))
            texts = spots(every)
            names = self._names(texts)
            for first, ends in enumerate(spans(every, self.conditions.longest)):
                for after in ends:
                    if tuple(names[first:after]) not in self._known:
                        wanted.setdefault(_BETWEEN.join(texts[first:after]), (arch, (first, after)))
        if self._store is not None and wanted:
            for text, found in self._store.get(list(wanted)).items():
                self._keep(text, found)
                del wanted[text]
        tasks: dict[Arch, list[tuple[Span, str]]] = {}
        for text, (arch, span) in wanted.items():
            tasks.setdefault(arch, []).append((span, text))
        return [
            Task(arch, tuple(span for span, _ in rows), tuple(text for _, text in rows))
            for arch, rows in tasks.items()
        ]

    def answer(self, task: Task) -> list[Found]:
        """The engine's answer to one task, in this process."""
        return self._engine(task.arch, task.spans)

    def learn(self, tasks: Sequence[Task], ask: Ask | None = None) -> None:
        """Know the chains of `tasks`; `ask` answers them all, in their order."""
        answers = ask(tasks) if ask is not None else map(self.answer, tasks)
        for task, found in zip(tasks, answers, strict=True):
            rows = dict(zip(task.texts, found, strict=True))
            for text, options in rows.items():
                self._keep(text, options)
            if self._store is not None:
                self._store.put(rows)

    def _keep(self, text: str, found: Found) -> None:
        self._known[tuple(self._names(text.split(_BETWEEN)))] = found

    def _names(self, texts: Sequence[str]) -> list[int]:
        return [self._short.setdefault(text, len(self._short)) for text in texts]

    def _row(self, first: int, key: tuple[int, ...]) -> Sequence[Option]:
        """The options of all chains that begin as `key` does, starting at layer `first`."""
        if (first, key) not in self._rows:
            self._rows[first, key] = [
                replace(option, first=first, after=first + option.after)
                for after in range(1, len(key) + 1)
                for option in self._known[key[:after]]
            ]
        return self._rows[first, key]
