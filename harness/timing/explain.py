"""Where the cycles go: by kind of work, and the hottest blocks with the reason of every stall."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tinyhil.harness.targets.recorder.trace import Segment
from tinyhil.harness.timing.block_costs import BlockCosts
from tinyhil.harness.timing.decode import Instruction, decode_block, disassemble
from tinyhil.harness.timing.estimate import estimate_segment
from tinyhil.harness.timing.image import Image
from tinyhil.harness.timing.rules import Issue

Key = TypeVar("Key")
_SHOWN = 48  # instructions of a block in the text; unrolled kernels have hundreds

_REQUANTISE = {"smull", "umull", "smlal", "umlal", "smmul", "smmulr", "smmla", "smmlar", "smmls", "smmlsr"}
_REQUANTISE |= {"ssat", "usat", "qadd", "qsub", "qdadd", "qdsub"}
_UNPACK = {"sxtb16", "uxtb16", "pkhbt", "pkhtb", "sxtb", "uxtb", "sxth", "uxth", "sxtab16", "uxtab16"}
_UNPACK |= {"sbfx", "ubfx", "bfi"}


def work_of(i: Instruction) -> str:
    """The kind of work an instruction does in an int8 kernel.

    One of loads, stores, macs, requantisation, unpacking, float, branches, other.
    """
    if i.mnemonic in _REQUANTISE:
        return "requantisation"
    if i.mnemonic in _UNPACK:
        return "unpacking"
    kinds = {"load": "loads", "load_multiple": "loads", "store": "stores", "store_multiple": "stores"}
    kinds |= {"multiply": "macs", "branch": "branches", "float": "float"}
    return kinds.get(i.kind, "other")


@dataclass(frozen=True)
class Line:
    """One instruction of a hot block: its text, the cycles it adds per execution, why it waits."""

    text: str
    cycles: float
    reason: str


@dataclass(frozen=True)
class HotBlock:
    """A block and what it costs, all executions together, without caches and mispredictions.

    `share`: part of all estimated cycles, 0 to 1. `cycles_each`: per execution. `lines` show it the
    way it is entered most often.
    """

    address: int
    function: str
    executed: int
    cycles: float
    cycles_each: float
    share: float
    lines: tuple[Line, ...]
    code: bytes = b""


@dataclass(frozen=True)
class Explanation:
    """`work`: cycles per kind of work and per kind of memory stall, they add up to the estimate."""

    work: Mapping[str, float]
    hottest: tuple[HotBlock, ...]


def _issues(costs: BlockCosts, left: int, entered: int) -> tuple[Issue, ...]:
    before, block = costs.blocks[left], costs.blocks[entered]
    taken = left == entered or block.address != before.address + len(before.code)
    return costs.core.trace(before.code, block.code, block.address, taken)


def explain(
    costs: BlockCosts, segments: Sequence[Segment], image: Image | None = None, top: int = 10
) -> Explanation:
    """Sorts the estimated cycles of `segments` by work, and picks the `top` blocks."""
    work: dict[str, float] = defaultdict(float)
    entries: Counter[tuple[int, int]] = Counter()
    executed: Counter[int] = Counter()
    for segment in segments:
        parts = estimate_segment(costs, segment).parts
        for part in ("fetch", "flash", "sram", "unaligned"):
            work[f"{part} waits"] += parts[part]
        work["mispredicted branches, returns"] += parts["branches"]
        for left, entered, count in segment.edges.tolist():
            if (left, entered) in costs.steps:
                entries[left, entered] += count
        for place, count, *_ in segment.ran.tolist():
            executed[place] += count
    block_cycles: dict[int, float] = defaultdict(float)
    usual: dict[int, tuple[int, int]] = {}
    for (left, entered), count in entries.most_common():
        cycles = costs.steps[left, entered] * count
        block_cycles[entered] += cycles
        usual.setdefault(entered, (left, entered))
        issues = _issues(costs, left, entered)
        # A steady loop can cost less, or through its fetch more, than the last round alone: scale.
        seen = sum(issue.cycles for issue in issues)
        for instruction, cycles_each in zip(
            decode_block(costs.blocks[entered].code), _shared(issues), strict=True
        ):
            share = cycles_each * cycles / seen if seen else cycles / len(issues)
            work[work_of(instruction)] += share
    whole = sum(work.values()) or 1.0
    hottest = []
    for place, cycles in _largest(block_cycles)[:top]:
        block = costs.blocks[place]
        texts = disassemble(block.address, block.code)
        issues = _issues(costs, *usual[place])
        lines = tuple(
            Line(text, issue.cycles, issue.reason) for text, issue in zip(texts, issues, strict=False)
        )
        runs = max(1, executed[place])
        function = image.function_at(block.address) if image else ""
        hottest.append(
            HotBlock(block.address, function, runs, cycles, cycles / runs, cycles / whole, lines, block.code)
        )
    return Explanation({name: cycles for name, cycles in _largest(work) if cycles}, tuple(hottest))


def _largest(cycles: Mapping[Key, float]) -> list[tuple[Key, float]]:
    return sorted(cycles.items(), key=lambda item: -item[1])


def _shared(issues: Sequence[Issue]) -> list[float]:
    """Cycles per instruction where the two of a pair share the cycle."""
    cycles = [issue.cycles for issue in issues]
    for place in range(1, len(cycles)):
        if cycles[place] == 0 and cycles[place - 1] > 0:
            cycles[place] = 0.5
            cycles[place - 1] -= 0.5
    return cycles


def as_text(explanation: Explanation) -> str:
    """The explanation for a terminal or a log."""
    whole = sum(explanation.work.values()) or 1.0
    lines = ["Estimated cycles by kind of work"]
    for name, spent in explanation.work.items():
        lines.append(f"  {name:<32}{spent:>16,.0f}  {spent / whole:6.1%}")
    for rank, block in enumerate(explanation.hottest, start=1):
        where = f" in {block.function}" if block.function else ""
        lines.append("")
        lines.append(
            f"{rank}. block at 0x{block.address:08x}{where}: {block.share:.1%} of the cycles, "
            f"{block.executed:,} times {block.cycles_each:.2f} cycles"
        )
        shown = block.lines if len(block.lines) <= _SHOWN else block.lines[:_SHOWN]
        lines += [f"  {line.cycles:5.2f}  {line.text:<46}{line.reason}".rstrip() for line in shown]
        if len(block.lines) > _SHOWN:
            lines.append(f"         ... and {len(block.lines) - _SHOWN} more instructions")
    return "\n".join(lines)
