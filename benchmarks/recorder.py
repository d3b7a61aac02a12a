"""How much the recorder slows the emulator down, with nothing else to compare against but one run.

Runs one firmware in QEMU plain, with block counts alone, with edges, and with everything, several
times in turn, and prints the ratios of the least processor times. Goals: at most 1.1 for counts and
2.5 for everything.

    python benchmarks/recorder.py [--elf FILE] [--machine mps2-an500] [--repeats 5]

Without --elf it builds a program around the inner loop of an int8 kernel, the densest in loads.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyhil.harness.boards import get_board
from tinyhil.harness.targets.recorder import build_recorder, plugin_argument, recorder_options

# Two billion instructions of the pointwise kernel's inner loop: four pixels and two channels, five loads
# in 14 instructions, four steps a round.
PROGRAM = """
    .syntax unified
    .thumb
    .text
    .word 0x20100000, start + 1
    .thumb_func
start:
    push {r0-r2}
again:
    ldr r0, =0x20020000
    ldr r1, =0x10000
    add r2, r0, #2048
    str r2, [sp]
1:
    .rept 4
    sxtb16 r3, r2
    smlad r5, r12, r2, r5
    smlad r4, r12, r3, r4
    ldr r12, [r0, #8]
    smlad r7, lr, r2, r7
    smlad r6, lr, r3, r6
    ldr lr, [r0, #12]
    smlad r9, r12, r2, r9
    smlad r8, r12, r3, r8
    ldr r12, [r0, #16]
    smlad r11, lr, r2, r11
    ldr r2, [r1], #4
    smlad r10, lr, r3, r10
    ldr lr, [r0, #20]
    .endr
    adds r0, #64
    tst r0, #0x7c0
    bne 1b
    ldr r2, [sp, #4]
    adds r2, #1
    str r2, [sp, #4]
    cmp r2, #0x100000
    bne again
    movs r0, #0x18
    ldr r1, =0x20026
    bkpt 0xab
"""


def build_program(folder: Path) -> Path:
    """The built-in program as an ELF for mps2-an500."""
    gcc = shutil.which("arm-none-eabi-gcc")
    if gcc is None:
        raise SystemExit("arm-none-eabi-gcc is not installed; `make bench` installs it, or give --elf")
    (folder / "program.s").write_text(PROGRAM)
    elf = folder / "program.elf"
    flags = ["-mcpu=cortex-m7", "-mthumb", "-nostdlib", "-Wl,-Ttext=0,-e,0"]
    subprocess.run([gcc, *flags, str(folder / "program.s"), "-o", str(elf)], check=True)
    return elf


def processor_seconds(command: Sequence[str]) -> float:
    """User time of one run."""
    before = os.times().children_user
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return os.times().children_user - before


def main() -> None:
    """Prints one line per mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elf", type=Path)
    parser.add_argument("--machine", default="mps2-an500")
    parser.add_argument("--repeats", type=int, default=5)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        elf = wanted.elf or build_program(folder)
        library = build_recorder(folder)
        plain = ["qemu-system-arm", "-M", wanted.machine, "-nographic", "-semihosting", "-kernel", str(elf)]
        everything = recorder_options(get_board("stm32f746"))
        modes: Mapping[str, Mapping[str, Any] | None] = {
            "plain": None,
            "block counts": {},
            "+ edges, branch predictor": {"edges": True},
            "+ instruction cache": {"edges": True, "icache": everything["icache"]},
            "+ data cache (everything)": everything,
        }
        seconds: dict[str, list[float]] = {mode: [] for mode in modes}
        for _ in range(wanted.repeats):
            for mode, options in modes.items():
                words = [] if options is None else plugin_argument(library, folder / "trace", (), **options)
                seconds[mode].append(processor_seconds([*plain, *words]))
    base = min(seconds["plain"])
    for mode, times in seconds.items():
        print(f"{mode:<28}{min(times):7.2f} s{min(times) / base:7.2f}x")


if __name__ == "__main__":
    main()
