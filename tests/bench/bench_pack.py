"""A CMSIS-Pack of our own for the F746: the flash algorithm that tinyhil ships, as vendors ship theirs.

A pack is a zip: a description (.pdsc) and, per memory, an ELF with the algorithm's code (.FLM), whose record
FlashDevice lists the sectors. Layouts: Open-CMSIS-Pack specification, "Flash programming algorithms".
"""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

FLASHALGO = Path(__file__).parents[2] / "firmware_templates" / "flashalgo"
TARGET = "stm32f746nghx"  # what pyOCD makes of Dname

_DEVICE = """
#include <stdint.h>
struct device {
    uint16_t version;
    char name[128];
    uint16_t kind; /* 1: on the chip */
    uint32_t start, size, page, reserved;
    uint8_t erased;
    uint32_t program_ms, erase_ms;
    struct { uint32_t size, offset; } sectors[4];
};
__attribute__((section("DevDscr"), used)) const struct device FlashDevice = {
    0x0101, "STM32F746 by tinyhil's tests", 1, 0x08000000, 0x100000, 0x400, 0, 0xFF, 1000, 6000,
    {{0x8000, 0}, {0x20000, 0x20000}, {0x40000, 0x40000}, {0xFFFFFFFF, 0xFFFFFFFF}},
};
"""
_LAYOUT = """
SECTIONS {
    PrgCode 0 : { *(.text .text.*) }
    PrgData : { LONG(0) *(.data .bss) }
    DevDscr 0x10000 : { KEEP(*(DevDscr)) }
    /DISCARD/ : { *(.comment) *(.ARM.*) }
}
"""
_DESCRIPTION = """<?xml version="1.0" encoding="UTF-8"?>
<package schemaVersion="1.7.7">
  <vendor>tinyhil</vendor> <name>F746</name> <description>For tests</description> <url></url>
  <releases><release version="1.0.0">The first</release></releases>
  <devices><family Dfamily="STM32F7" Dvendor="STMicroelectronics:13"><device Dname="STM32F746NGHx">
    <processor Dcore="Cortex-M7" DcoreVersion="r0p1" Dfpu="SP_FPU" Dmpu="MPU" Dendian="Little-endian"/>
    <debug __dp="0" __ap="0"/>
    <memory name="IROM1" access="rx" start="0x08000000" size="0x100000" startup="1" default="1"/>
    <memory name="IRAM1" access="rwx" start="0x20000000" size="0x50000" default="1"/>
    <algorithm name="Flash/F746.FLM" start="0x08000000" size="0x100000" RAMstart="0x20000000" RAMsize="0x8000"
               default="1"/>
  </device></family></devices>
</package>
"""


def make_pack(folder: Path) -> Path:
    """Builds the pack with the cross compiler."""
    (folder / "device.c").write_text(_DEVICE)
    (folder / "flm.ld").write_text(_LAYOUT)
    elf = folder / "F746.FLM"
    subprocess.run(
        ["arm-none-eabi-gcc", "-mcpu=cortex-m3", "-mthumb", "-Os", "-ffreestanding", "-fpic",
         "-mno-pic-data-is-text-relative", "-nostdlib", f"-Wl,-T,{folder / 'flm.ld'}", "-Wl,-e,Init",
         "-Wl,--build-id=none", str(FLASHALGO / "stm32f7.c"), str(folder / "device.c"), "-o", str(elf)],
        check=True,
    )  # fmt: skip
    pack = folder / "tinyhil.F746.1.0.0.pack"
    with zipfile.ZipFile(pack, "w") as archive:
        archive.writestr("tinyhil.F746.pdsc", _DESCRIPTION)
        archive.write(elf, "Flash/F746.FLM")
    return pack
