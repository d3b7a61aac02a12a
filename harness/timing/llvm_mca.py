"""LLVM's machine-code analyser beside our pipeline model, on the hottest blocks.

Two models of one core that know nothing of each other. Most of the difference is how post-indexed accesses
are taken, so each block is given to llvm-mca a second time without; docs/timing.md explains the rest.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from tinyhil.errors import MissingTool
from tinyhil.harness.timing.decode import decode_block, disassemble
from tinyhil.harness.timing.explain import HotBlock
from tinyhil.harness.timing.rules import Core

_NAMES = ("llvm-mca", *(f"llvm-mca-{version}" for version in range(22, 13, -1)))
_ALIASES = {"sb": "r9", "sl": "r10", "fp": "r11", "ip": "r12"}
_POST_INDEXED = re.compile(r"^((?:ldr|str)\w* .*\[\w+\]), (#.*)$")


def find_llvm_mca() -> str:
    """The program; MissingTool says how to get it."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise MissingTool("llvm-mca is not on PATH: apt install llvm, or your package manager's LLVM")
    return found


def body(block: HotBlock) -> tuple[list[str], bytes]:
    """The block's instructions without the branch that ends it: as llvm-mca takes them, and their code."""
    instructions = decode_block(block.code)
    code = block.code
    lines = [line.split(maxsplit=1)[1] for line in disassemble(block.address, code)]
    if instructions[-1].writes_pc:
        lines, code = lines[:-1], code[: -instructions[-1].size]
    return [_cleaned(line) for line in lines], code


def _cleaned(line: str) -> str:
    line = re.sub(r"^(\w+)\.w\b", r"\1", line)
    return re.sub(r"\b(sb|sl|fp|ip)\b", lambda found: _ALIASES[found[1]], line)


def without_post_index(lines: Sequence[str]) -> list[str]:
    """Post-indexed accesses become such with an offset: no new address to compute."""
    return [_POST_INDEXED.sub(lambda m: f"{m[1][:-1]}, #4]", line) for line in lines]


def cycles(program: str, core: str, lines: Sequence[str]) -> float | None:
    """Cycles per round of `lines` in a loop; None if llvm-mca refuses them, or ends by a signal."""
    command = [program, "-mtriple=thumbv7em-none-eabihf", f"-mcpu={core}", "-iterations=100"]
    command += ["-instruction-info=false", "-resource-pressure=false"]
    text = ".syntax unified\n" + "\n".join(lines) + "\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    return int(found[1]) / 100 if found and done.returncode == 0 else None


def table(program: str, core: Core, blocks: Sequence[HotBlock]) -> str:
    """Our cycles per round beside llvm-mca's, as they are and without post-indexed accesses."""
    rows = [f"{'block':<40}{'instr.':>7}{'model':>8}{'mca':>8}{'no post-index':>15}"]
    for block in blocks:
        lines, code = body(block)
        if not lines:
            continue
        found = [cycles(program, core.name, variant) for variant in (lines, without_post_index(lines))]
        shown = ["refuses" if value is None else f"{value:.1f}" for value in found]
        name = f"{block.address:#010x} {block.function}"[:39]
        own = core.loop_cycles(code, block.address)
        rows.append(f"{name:<40}{len(lines):>7}{own:>8.1f}{shown[0]:>8}{shown[1]:>15}")
    return "\n".join(rows)
