"""From fault registers to a sentence: which function and line, what it did, in which layer.

ARMv7-M Architecture Reference Manual, B1.5.14 (fault behaviour) and B3.2 (status registers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile

from tinyhil.errors import HardFault
from tinyhil.harness.build.firmware import Firmware, Symbol
from tinyhil.harness.wire import Fault

_MMARVALID, _BFARVALID = 1 << 7, 1 << 15
# CFSR bit → what happened; the first that is set is the first cause.
_CAUSES = {
    1 << 4: "no room on the stack for an exception (stack overflow)",
    1 << 12: "no room on the stack for an exception (stack overflow)",
    1 << 3: "the stack was damaged: returning from an exception failed",
    1 << 11: "the stack was damaged: returning from an exception failed",
    1 << 0: "it jumped to where no code may run",
    1 << 1: "it read or wrote where access is forbidden",
    1 << 8: "it jumped to an address without memory",
    1 << 9: "it read or wrote an address without memory",
    1 << 10: "some earlier write went to an address without memory (the line is near, not exact)",
    1 << 16: "undefined instruction: corrupted code, a jump into data, or a build for another core",
    1 << 17: "jump to an even address: a damaged function pointer or return address",
    1 << 18: "damaged return address of an exception",
    1 << 19: "a floating-point instruction while the FPU is off",
    1 << 24: "an unaligned access by an instruction that needs alignment",
    1 << 25: "division by zero",
}


@dataclass(frozen=True)
class Place:
    """Where an address lies: function, and file:line if the ELF has line tables ('' if not)."""

    function: str
    line: str

    def __str__(self) -> str:
        return f"{self.function} ({self.line})" if self.line else self.function


def function_at(symbols: Mapping[str, Symbol], address: int) -> str:
    """Name of the function that holds `address`, '' if none does."""
    address &= ~1
    for name, symbol in symbols.items():
        if symbol.address <= address < symbol.address + symbol.size:
            return name
    return ""


def line_at(elf: Path, address: int) -> str:
    """`file.c:42` of `address` from the ELF's line tables, '' if it has none for it."""
    address &= ~1
    try:
        with elf.open("rb") as file:
            dwarf = ELFFile(file).get_dwarf_info()
            for unit in dwarf.iter_CUs():
                program = dwarf.line_program_for_CU(unit)
                if program is None:
                    continue
                before = None
                for entry in program.get_entries():
                    state = entry.state
                    if state is None:
                        continue
                    if before is not None and before.address <= address < state.address:
                        files = program.header["file_entry"]
                        # DWARF 5 counts files from 0, earlier versions from 1.
                        index = before.file - (0 if program.header["version"] >= 5 else 1)
                        return f"{Path(files[index].name.decode()).name}:{before.line}"
                    before = None if state.end_sequence else state
    except (OSError, ELFError, DWARFError, IndexError, KeyError, UnicodeDecodeError):
        return ""  # the function's name will have to do
    return ""


def place(firmware: Firmware, address: int) -> Place:
    """Function and line of a code address."""
    function = function_at(firmware.symbols, address)
    if not function:
        return Place(f"{address:#010x}, where there is no code", "")
    return Place(function, line_at(firmware.elf, address))


def cause(fault: Fault) -> str:
    """The first cause in words, with the address that was touched if the core kept it."""
    reason = next((text for bit, text in _CAUSES.items() if fault.cfsr & bit), "")
    if not reason:
        if fault.hfsr & (1 << 1):
            reason = "the vector table could not be read"
        elif fault.hfsr & (1 << 31):
            reason = "a breakpoint instruction (abort or assert) without a debugger"
        else:
            reason = "an exception that no code expects"
    if fault.cfsr & _BFARVALID:
        return f"{reason}: {fault.bfar:#010x}"
    if fault.cfsr & _MMARVALID:
        return f"{reason}: {fault.mmfar:#010x}"
    return reason


def hard_fault(fault: Fault, firmware: Firmware, layer: int | None) -> HardFault:
    """The error for `fault`. `layer` is the index of the layer that was running, None if unknown."""
    network = firmware.sources.network
    layers = firmware.sources.layers
    during = f", in layer {layer} ({layers[layer].name})" if layer is not None and layer < len(layers) else ""
    if fault.sp == 0:
        return HardFault(
            f"{network} crashed{during}: the stack pointer left the stack, so most likely the stack is too "
            f"small; {cause(fault)}. Give the firmware a larger stack, or use less of it"
        )
    caller = function_at(firmware.symbols, fault.lr)
    called = f", called from {place(firmware, fault.lr - 2)}" if caller else ""
    return HardFault(f"{network} crashed in {place(firmware, fault.pc)}{called}{during}: {cause(fault)}")
