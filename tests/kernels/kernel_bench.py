"""Runs kernel candidates on given inputs: natively under sanitizers, and on an emulated core.

One C program holds many cases; it compares each output with the expected bytes and prints one line per
case: differing bytes, bytes written outside, and on the emulator the instructions of one call. Buffers
are exact and lie between guards; scratch is filled with rubbish before each call.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tinyhil.harness.tinyengine.asm.requant import expected
from tinyhil.harness.tinyengine.ctext import c_array
from tinyhil.harness.tinyengine.kernel import Candidate
from tinyhil.harness.tinyengine.work import AddWork, ConvWork, DepthwiseWork, Map, Requant

MACHINES = {"cortex-m7": "mps2-an500", "cortex-m4": "mps2-an386"}
needs_arm = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="needs arm-none-eabi-gcc and qemu-system-arm: install gcc-arm-none-eabi and qemu-system-arm",
)


@dataclass(frozen=True, eq=False)
class Case:
    """One call: a candidate, its inputs and the right output. `overlap` puts the output `gap` bytes
    below the first input, in one buffer, as the planner may."""

    candidate: Candidate
    inputs: tuple[np.ndarray, ...]
    output: np.ndarray
    overlap: bool = False
    macs: int = 1


@dataclass(frozen=True)
class Outcome:
    """What one case did. `instructions` are 0 on the host."""

    differing: int
    outside: int
    instructions: int


_GUARD = 64
_MAIN = """
#include <stdint.h>
#include <string.h>
#define GUARD 64
{head}
static int8_t arena[{arena}] __attribute__((aligned(8)));
static uint32_t differing, outside, taken;

static void fill(int8_t *to, uint32_t n) {{ for (uint32_t i = 0; i < n; i++) to[i] = (int8_t)0xA5; }}

static void guard(const int8_t *from, uint32_t n)
{{
    for (uint32_t i = 0; i < n; i++) outside += from[i] != (int8_t)0xA5;
}}

static void compare(const int8_t *a, const int8_t *b, uint32_t n)
{{
    for (uint32_t i = 0; i < n; i++) differing += a[i] != b[i];
}}
{cases}
int main(void)
{{
    start();
{calls}
    stop();
    return 0;
}}
"""
_HOST = """
#include <stdio.h>
#include <stdlib.h>
static void start(void) {}
static void stop(void) {}
static uint32_t now(void) { return 0; }
static void report(uint32_t d, uint32_t o, uint32_t t)
{
    printf("%u %u %u\\n", (unsigned)d, (unsigned)o, (unsigned)t);
}
"""
# The CMSDK timer runs at 25 MHz; with -icount shift=6 an instruction takes 64 ns, so ticks * 5 / 8.
_TARGET = """
extern uint32_t __stack;
void reset(void);
__attribute__((section(".vectors"), used)) const void *const vectors[16] = {&__stack, (void *)reset};
int main(void);
static int semihost(uint32_t op, const void *argument)
{
    register uint32_t r0 __asm__("r0") = op;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return (int)r0;
}
static void start(void)
{
    *(volatile uint32_t *)0x40000008 = 0xFFFFFFFF;
    *(volatile uint32_t *)0x40000004 = 0xFFFFFFFF;
    *(volatile uint32_t *)0x40000000 = 1;
}
static void stop(void)
{
    static const uint32_t block[2] = {0x20026, 0};
    semihost(0x20, block);
}
void reset(void) { main(); for (;;) {} }
void hard_fault(void) { semihost(0x04, "fault\\n"); stop(); }
static uint32_t now(void)
{
    return 0xFFFFFFFF - *(volatile uint32_t *)0x40000004;
}
static char *decimal(char *to, uint32_t value)
{
    char digits[10];
    int n = 0;
    do { digits[n++] = (char)('0' + value % 10); value /= 10; } while (value);
    while (n) *to++ = digits[--n];
    return to;
}
static void report(uint32_t d, uint32_t o, uint32_t t)
{
    char line[40], *to = line;
    to = decimal(to, d);
    *to++ = ' ';
    to = decimal(to, o);
    *to++ = ' ';
    to = decimal(to, (uint32_t)((uint64_t)t * 5 / 8));
    *to++ = '\\n';
    *to = 0;
    semihost(0x04, line);
}
"""
_LINK = """
MEMORY { ROM : ORIGIN = 0, LENGTH = 4M  RAM : ORIGIN = 0x20000000, LENGTH = 4M }
ENTRY(reset)
SECTIONS {
  .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) *(.ARM*) } > ROM
  .data : { *(.data*) } > RAM
  .bss : { *(.bss*) *(COMMON) } > RAM
  __stack = ORIGIN(RAM) + LENGTH(RAM) - 16;
}
"""


def _case_text(index: int, case: Case) -> str:
    """Buffers of one case inside the arena, guards between them, and the call."""
    out, scratch = case.output, case.candidate.scratch
    gap = case.candidate.gaps[0] if case.overlap else None
    y_at, x_at = (GUARD_START, GUARD_START + (gap or 0)) if case.overlap else (GUARD_START, 0)
    end = y_at + out.nbytes
    places = []
    for i, x in enumerate(case.inputs):
        if case.overlap and i == 0:
            places.append(x_at)
            end = max(end, x_at + x.nbytes)
        else:
            end += _GUARD
            places.append(end)
            end += x.nbytes
    work_at = (end + _GUARD + 7) // 8 * 8
    arguments = [f"arena + {place}" for place in places] + [f"arena + {y_at}"]
    if scratch:
        arguments.append(f"(uint8_t *)arena + {work_at}")
    copies = [
        f"    memcpy(arena + {p}, x{index}_{i}, {x.nbytes});"
        for i, (p, x) in enumerate(zip(places, case.inputs, strict=True))
    ]
    lines = [f"static const int8_t x{index}_{i}[] = {{\n{c_array(x)}}};" for i, x in enumerate(case.inputs)]
    lines += [f"static const int8_t y{index}[] = {{\n{c_array(out)}}};"]
    kinds = ", ".join(
        ["const int8_t *"] * len(case.inputs) + ["int8_t *"] + (["uint8_t *"] if scratch else [])
    )
    lines += [f"void layer{index}({kinds});", f"static void case{index}(void)", "{"]
    lines += [f"    fill(arena, {work_at + scratch + _GUARD});", *copies, "    uint32_t before = now();"]
    lines += [f"    layer{index}({', '.join(arguments)});", "    uint32_t after = now();"]
    lines += ["    differing = outside = 0;", "    taken = after - before;"]
    lines += [f"    compare(arena + {y_at}, y{index}, {out.nbytes});", f"    guard(arena, {GUARD_START});"]
    first_end = max(y_at + out.nbytes, x_at + case.inputs[0].nbytes) if case.overlap else y_at + out.nbytes
    lines += [
        f"    guard(arena + {first_end}, {_GUARD});",
        f"    guard(arena + {work_at + scratch}, {_GUARD});",
    ]
    lines += ["    report(differing, outside, taken);", "}"]
    return "\n".join(lines)


GUARD_START = 64


def _write(folder: Path, cases: Sequence[Case], runtime: str) -> list[Path]:
    files: dict[str, str] = {}
    biggest = 1024
    for index, case in enumerate(cases):
        code = case.candidate.emit(f"layer{index}")
        for name, text in code.files.items():
            assert files.setdefault(name, text) == text, f"two different files called {name}"
        includes = "\n".join(f"#include {i}" for i in ("<stdint.h>", *code.includes))
        files[f"layer{index}.c"] = f"{includes}\n\n{code.definition}"
        biggest = max(
            biggest, sum(x.nbytes for x in case.inputs) + case.output.nbytes + case.candidate.scratch
        )
    texts = "\n".join(_case_text(i, c) for i, c in enumerate(cases))
    calls = "\n".join(f"    case{i}();" for i in range(len(cases)))
    files["main.c"] = _MAIN.format(head=runtime, arena=2 * biggest + 4096, cases=texts, calls=calls)
    for name, text in files.items():
        (folder / name).write_text(text)
    return sorted(folder / name for name in files if name.endswith((".c", ".S")))


_WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wno-unused-function"]


def run_native(folder: Path, cases: Sequence[Case]) -> list[Outcome]:
    """Compile the twins with address and undefined-behaviour sanitizers and run them."""
    sources = _write(folder, cases, _HOST)
    program = folder / "host"
    flags = ["-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["cc", *flags, *_WARNINGS, "-o", program, *sources], check=True)
    done = subprocess.run([program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return _parse(done.stdout, len(cases))


def run_emulated(folder: Path, cases: Sequence[Case], core: str) -> list[Outcome]:
    """Compile for `core` and run on QEMU, counting instructions."""
    sources = _write(folder, cases, _TARGET)
    (folder / "link.ld").write_text(_LINK)
    program = folder / "target.elf"
    flags = [
        f"-mcpu={core}",
        "-mthumb",
        "-std=c11",
        "-O2",
        "-ffreestanding",
        "-nostartfiles",
        "-T",
        str(folder / "link.ld"),
    ]
    float_abi = ["-mfloat-abi=hard", "-mfpu=" + ("fpv5-sp-d16" if core == "cortex-m7" else "fpv4-sp-d16")]
    subprocess.run(
        ["arm-none-eabi-gcc", *flags, *float_abi, *_WARNINGS, "-o", program, *sources, "-lc", "-lgcc"],
        check=True,
    )
    command = ["qemu-system-arm", "-M", MACHINES[core], "-nographic", "-monitor", "none", "-serial", "none"]
    command += [
        "-semihosting-config",
        "enable=on,target=native",
        "-icount",
        "shift=6",
        "-kernel",
        str(program),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    return _parse(done.stdout + done.stderr, len(cases))


def _parse(text: str, count: int) -> list[Outcome]:
    rows = [line.split() for line in text.splitlines()]
    assert len(rows) == count, text
    assert all(len(row) == 3 for row in rows), text
    return [Outcome(*(int(v) for v in row)) for row in rows]


# -- works with random weights, and what TFLM's reference computes for them


def random_requant(
    rng: np.random.Generator, channels: int, depth: int, relu: bool, spread: int = 2
) -> Requant:
    """Scales that fill the output range for `depth` random taps; `spread` in powers of two by channel."""
    multiplier = rng.integers(1 << 30, (1 << 31) - 1, channels)
    typical = max(0, round(np.log2(np.sqrt(depth) * 73 * 73 / 60)))
    shift = -(typical + rng.integers(0, spread + 1, channels))
    zero = -128 if relu else int(rng.integers(-20, 20))
    return Requant(multiplier.astype(np.int32), shift.astype(np.int32), zero, -128, 127)


def random_conv(
    rng: np.random.Generator,
    size: tuple[int, int, int],
    channels: int,
    kernel: tuple[int, int] = (1, 1),
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    relu: bool = True,
) -> ConvWork:
    """A convolution of an input of `size` (height, width, channels)."""
    h, w, c = size
    oh = (h + pads[0] + pads[1] - kernel[0]) // strides[0] + 1
    ow = (w + pads[2] + pads[3] - kernel[1]) // strides[1] + 1
    weights = rng.integers(-127, 128, (channels, *kernel, c)).astype(np.int8)
    bias = rng.integers(-8000, 8000, channels).astype(np.int32)
    requant = random_requant(rng, channels, weights[0].size, relu)
    x = Map(h, w, c, int(rng.integers(-128, 128)))
    return ConvWork(
        x, Map(oh, ow, channels, requant.zero_point), weights, bias, requant, strides, (1, 1), pads
    )


def random_depthwise(
    rng: np.random.Generator,
    size: tuple[int, int, int],
    kernel: tuple[int, int] = (3, 3),
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    multiplier: int = 1,
    relu: bool = True,
) -> DepthwiseWork:
    """A depthwise convolution of an input of `size` (height, width, channels)."""
    h, w, c = size
    oh = (h + pads[0] + pads[1] - kernel[0]) // strides[0] + 1
    ow = (w + pads[2] + pads[3] - kernel[1]) // strides[1] + 1
    channels = c * multiplier
    weights = rng.integers(-128, 128, (*kernel, channels)).astype(np.int8)
    bias = rng.integers(-5000, 5000, channels).astype(np.int32)
    requant = random_requant(rng, channels, kernel[0] * kernel[1], relu)
    x = Map(h, w, c, int(rng.integers(-128, 128)))
    y = Map(oh, ow, channels, requant.zero_point)
    return DepthwiseWork(x, y, weights, bias, requant, multiplier, strides, (1, 1), pads)


def conv_reference(work: ConvWork, x: np.ndarray) -> np.ndarray:
    """int8 [height, width, channels] of a convolution, by TFLM's arithmetic."""
    patches = _patches(work, x)
    sums = np.einsum("yxijc,oijc->yxo", patches, work.weights.astype(np.int64)) + work.bias
    return expected(work.requant, sums).astype(np.int8)


def depthwise_reference(work: DepthwiseWork, x: np.ndarray) -> np.ndarray:
    """int8 [height, width, channels] of a depthwise convolution, by TFLM's arithmetic."""
    patches = np.repeat(_patches(work, x), work.multiplier, axis=4)
    sums = np.einsum("yxijc,ijc->yxc", patches, work.weights.astype(np.int64)) + work.bias
    return expected(work.requant, sums).astype(np.int8)


def _patches(work: ConvWork | DepthwiseWork, x: np.ndarray) -> np.ndarray:
    top, bottom, left, right = work.pads
    values = x.astype(np.int64).reshape(work.x.height, work.x.width, work.x.channels) - work.x.zero_point
    padded = np.pad(values, ((top, bottom), (left, right), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(padded, work.kernel, axis=(0, 1))
    return views[:: work.strides[0], :: work.strides[1]].transpose(0, 1, 3, 4, 2)


def random_input(rng: np.random.Generator, work: ConvWork | DepthwiseWork | AddWork) -> np.ndarray:
    """int8 values of all sizes, some at both ends."""
    values = rng.integers(-128, 128, work.x.nbytes)
    return values.astype(np.int8)
