"""What the engine itself would need for an architecture: its planner's arena, its kernels' flash.

No proxy: the same passes, kernel choice and placement as for a real build, on a network with typical
weights. What each chain of layers may run on is asked once (chains.py); a candidate whose chains are all
known costs one shortest path and one placement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tinyhil.harness.boards import Board
from tinyhil.harness.engine import Options
from tinyhil.harness.tinyengine.choose import choices_of
from tinyhil.harness.tinyengine.lowering import Program
from tinyhil.harness.tinyengine.schedule import Choice, Schedule, arena_of, arrange
from tinyhil.nas.arch import Arch, Layer, layers
from tinyhil.nas.chains import Chains, Store
from tinyhil.nas.prices import Conditions, outline
from tinyhil.nas.space import Need

MANY = 2  # networks: a question that is worth other processes


@dataclass(frozen=True, eq=False)
class PlannedLayer:
    """One layer that the engine will run; fused ones count as one.

    `parts` are the architecture's layers in it. `instructions` is the engine's own count; `flash` its
    estimate of the bytes of code and constants that are the layer's own, `shared` maps files of code
    that layers may share to bytes.
    """

    kernel: str
    instructions: int
    flash: int = 0
    shared: Mapping[str, int] | None = None
    parts: tuple[Layer, ...] = ()


@dataclass(frozen=True, eq=False)
class Planned:
    """The engine's plan in figures: bytes of arena and flash, MACs, and the layers it will run."""

    arena: int
    flash: int
    macs: int
    layers: tuple[PlannedLayer, ...]


Firmware = Callable[[Planned], tuple[int, int]]  # a plan -> bytes of RAM and flash of its firmware


class Crew(Protocol):
    """Other processes that share the store."""

    def plan(self, archs: Sequence[Arch]) -> Iterable[Planned]:
        """The plans of networks, in order."""
        ...


class EngineNeeds:
    """Asks TinyEngine's planner what networks need on `board`.

    `firmware` turns a plan into the RAM and flash of its firmware, as built networks taught
    (codesize.py); without it the plan alone is counted. `ram_extra` and `flash_extra` are bytes to be on
    the safe side. `store` keeps what is known of chains of layers; a `crew` that shares it answers large
    questions. Neither changes an answer.
    """

    def __init__(
        self,
        board: Board,
        options: Options | None = None,
        ram_extra: int = 0,
        flash_extra: int = 0,
        store: Store | None = None,
        crew: Crew | None = None,
    ) -> None:
        self.board = board
        self.options = options or Options()
        self.ram_extra, self.flash_extra = ram_extra, flash_extra
        self.firmware: Firmware = _plan_alone
        self.chains = Chains(Conditions(board.core, self.options), store)
        self.crew = crew
        self._plans: dict[Arch, Planned] = {}

    def __call__(self, arch: Arch) -> Need:
        """RAM and flash in bytes, and MACs, of `arch`."""
        plan = self.plan(arch)
        ram, flash = self.firmware(plan)
        return Need(ram + self.ram_extra, flash + self.flash_extra, plan.macs)

    def prepare(self, archs: Sequence[Arch]) -> None:
        """Plan networks that will be asked for, with the crew's help where they are many."""
        fresh = [arch for arch in dict.fromkeys(archs) if arch not in self._plans]
        if self.crew is None or len(fresh) < MANY:
            return
        try:
            self._plans.update(zip(fresh, self.crew.plan(fresh), strict=True))
        except BrokenExecutor:  # one of its processes was killed: go on without it
            self.crew = None

    def plan(self, arch: Arch) -> Planned:
        """The engine's plan for `arch` in figures, worked out once."""
        if arch not in self._plans:
            choices = self._choices(arch)
            arena = arena_of(self._outline(arch), choices, self._overlap)
            self._plans[arch] = planned(choices, arena, layers(arch))
        return self._plans[arch]

    def forget_plans(self) -> None:
        """Drop the plans of whole networks; what is known of chains of layers stays."""
        self._plans.clear()

    def schedule(self, arch: Arch) -> Schedule:
        """The engine's plan for `arch`."""
        return arrange(self._outline(arch), self._choices(arch), self._overlap)

    @property
    def _overlap(self) -> bool:
        return "overlap" not in self.options.disabled

    def _outline(self, arch: Arch) -> Program:
        every = layers(arch)
        return outline(every, [None] * len(every))

    def _choices(self, arch: Arch) -> list[Choice]:
        budget = 1 << 40 if self.board.is_native else self.board.ram.size
        return choices_of(self.chains.table(arch), self.options.prefer, budget)[0]


def _plan_alone(plan: Planned) -> tuple[int, int]:
    return plan.arena, plan.flash


def planned(
    choices: Sequence[Choice], arena: int, every: Sequence[Layer], run: Sequence[Layer] | None = None
) -> Planned:
    """A plan of the layers `every` in figures; `run` are these as they run, where channels were dropped."""
    rows = []
    for choice in choices:
        price = choice.candidate
        parts = tuple((run or every)[step] for step in choice.steps)
        rows.append(PlannedLayer(price.kernel, price.instructions, price.flash, dict(price.shared), parts))
    return Planned(arena, flash_of(choices), sum(layer.macs for layer in every), tuple(rows))


def flash_of(choices: Sequence[Choice]) -> int:
    """Bytes of code and constants of a plan; helpers that layers share count once."""
    candidates = [choice.candidate for choice in choices]
    shared: dict[str, int] = {}
    for candidate in candidates:
        shared.update(candidate.shared)
    return sum(candidate.flash for candidate in candidates) + sum(shared.values())


def family(kernel: str) -> str:
    """The kernel's name without the size of its tile: `conv+dw x8` is of the family `conv+dw`."""
    return kernel.rpartition(" x")[0] or kernel


def plan_to_json(plan: Planned) -> dict[str, Any]:
    """`plan` as plain data; of the architecture's layers in it only the channels."""
    rows = [
        {
            "kernel": layer.kernel, "instructions": layer.instructions, "flash": layer.flash,
            "shared": dict(layer.shared or {}), "channels": [[part.cin, part.cout] for part in layer.parts],
        }
        for layer in plan.layers
    ]  # fmt: skip
    return {"arena": plan.arena, "flash": plan.flash, "layers": rows}


def plan_from_json(arch: Arch, table: Mapping[str, Any]) -> Planned:
    """What `plan_to_json` made of a plan of `arch`."""
    every = layers(arch)
    left = iter(every)
    rows = tuple(
        PlannedLayer(
            str(row["kernel"]), int(row["instructions"]), int(row["flash"]),
            {str(name): int(size) for name, size in row["shared"].items()},
            tuple(_with_channels(next(left), int(cin), int(cout)) for cin, cout in row["channels"]),
        )
        for row in table["layers"]
    )  # fmt: skip
    return Planned(int(table["arena"]), int(table["flash"]), sum(layer.macs for layer in every), rows)


def _with_channels(layer: Layer, cin: int, cout: int) -> Layer:
    return layer if (layer.cin, layer.cout) == (cin, cout) else replace(layer, cin=cin, cout=cout)
