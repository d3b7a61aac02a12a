"""Compiles a flash algorithm to the blob that a debug probe loads, with where it came from.

Run it after a change of the C: `python firmware_templates/flashalgo/make_blob.py stm32f7`.
tests/bench/test_bench_flashalgo.py says when a blob does not belong to its source any more.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

COMPILER = "arm-none-eabi-gcc"
# Cortex-M3 code runs on M4 and M7 too. Position independent: pyOCD places it where it likes.
FLAGS = ("-mcpu=cortex-m3", "-mthumb", "-Os", "-ffreestanding", "-fpic", "-mno-pic-data-is-text-relative",
         "-fno-jump-tables", "-fno-tree-loop-distribute-patterns", "-Wall", "-Wextra", "-Werror")  # fmt: skip
LINK = ("-nostdlib", "-Wl,-Ttext=0", "-Wl,-e,Init", "-Wl,--build-id=none")
ENTRIES = ("Init", "UnInit", "EraseChip", "EraseSector", "ProgramPage")


def make_blob(source: Path) -> dict[str, Any]:
    """Words of code, offset of each entry, and the blob's provenance; ValueError if it holds data."""
    version = subprocess.run([COMPILER, "-dumpfullversion"], capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory() as folder:
        elf = Path(folder) / "algorithm.elf"
        subprocess.run([COMPILER, *FLAGS, *LINK, str(source), "-o", str(elf)], check=True)
        with elf.open("rb") as file:
            image = ELFFile(file)
            code = image.get_section_by_name(".text").data()
            symbols = {
                s.name: s["st_value"] & ~1 for s in image.get_section_by_name(".symtab").iter_symbols()
            }
            for name in (".data", ".bss", ".rodata", ".got"):
                section = image.get_section_by_name(name)
                if section is not None and section["sh_size"]:
                    raise ValueError(f"{source.name} has {name}: an algorithm may only have code")
    code += bytes(-len(code) % 4)
    return {
        "source": source.name,
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "compiler": f"{COMPILER} {version.stdout.strip()}",
        "flags": " ".join((*FLAGS, *LINK)),
        "entries": {name: symbols[name] for name in ENTRIES},
        "code": code.hex(" ", 4),
    }


if __name__ == "__main__":
    for chip in sys.argv[1:]:
        path = Path(__file__).parent / f"{chip}.c"
        path.with_suffix(".json").write_text(json.dumps(make_blob(path), indent=2) + "\n")
