"""Thumb-2 machine code as what a pipeline model needs to know of each instruction.

Capstone names the instruction and its operands; this module sorts it into a kind and tells which
registers are read at which pipeline stage. Everything here is true of the instruction set; what a
core makes of it is said in one file per core.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from capstone import CS_ARCH_ARM, CS_MODE_MCLASS, CS_MODE_THUMB, CS_OP_MEM, CS_OP_REG, Cs

#: How an operand is consumed. INDEX: by the address adder. SHIFTED: by the shifter in front of the
#: ALU. ADDEND: by the adder behind the multiplier. DATA: what a store stores. PLAIN: all others.
PLAIN, INDEX, SHIFTED, ADDEND, DATA = "plain", "index", "shifted", "addend", "data"

_ADD_MOVE = {"add", "addw", "sub", "subw", "mov", "movw", "movt", "adr", "rsb"}
_SHIFTS = {"lsl", "lsr", "asr", "ror", "rrx"}
# Consume what they extract or shift in the shifter in front of the ALU.
_EXTRACTS = {"ubfx", "sbfx", "rbit", "rev", "rev16", "revsh", "bfi", "bfc", "pkhbt", "pkhtb"}
_EXTRACTS |= {"sxtab", "sxtah", "uxtab", "uxtah", "sxtab16", "uxtab16"}
_BITFIELD = _EXTRACTS | {"sxtb", "sxth", "uxtb", "uxth", "sxtb16", "uxtb16", "clz", "sel"}
_BITFIELD |= {"ssat", "usat", "ssat16", "usat16", "qadd", "qsub", "qdadd", "qdsub", "usad8", "usada8"}
_BITFIELD |= {
    sign + name
    for sign in ("s", "u", "q", "uq", "sh", "uh")
    for name in ("add8", "add16", "sub8", "sub16", "asx", "sax")
}
_ADDEND_LAST = {"mla", "mls", "smlad", "smladx", "smlsd", "smlsdx", "smmla", "smmlar", "smmls", "smmlsr"}
_ADDEND_LAST |= {"smlabb", "smlabt", "smlatb", "smlatt", "smlawb", "smlawt"}
_ADDEND_FIRST = {"smlal", "umlal", "umaal", "smlald", "smlaldx", "smlsld", "smlsldx"}
_ADDEND_FIRST |= {"smlalbb", "smlalbt", "smlaltb", "smlaltt"}
_MULTIPLY = _ADDEND_LAST | _ADDEND_FIRST | {"mul", "smull", "umull", "smmul", "smmulr", "smuad", "smuadx"}
_MULTIPLY |= {"smusd", "smusdx", "smulbb", "smulbt", "smultb", "smultt", "smulwb", "smulwt"}
_MULTIPLE = {"ldm", "ldmdb", "pop", "vldmia", "vldmdb", "vpop", "ldrd", "stm", "stmdb", "push", "vstmia"}
_MULTIPLE |= {"vstmdb", "vpush", "strd"}
_BRANCHES = {"b", "bl", "bx", "blx", "cbz", "cbnz", "tbb", "tbh"}
_NO_RESULT = {"cmp", "cmn", "tst", "teq", "vcmp", "vcmpe"}


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity: hashed often, decoded once
class Instruction:
    """One Thumb instruction, whatever its address.

    `kind`: load, store, load_multiple, store_multiple, multiply, divide, branch, shift, add_move,
    alu, alu_shifted, bitfield, float, it, nop, or unknown to the disassembler. `reads`: (register, how
    it is consumed) pairs. `writes`: registers with a new value; `updated` is the address register of
    pre- and post-indexed accesses among them. Registers are 0-15 and, for S0 to S31, 32-63 (a D register
    is two of these).
    `fpu`: reads or writes a register of the FPU. `words`: 32-bit words that a load or store moves; 0 for
    a byte or half-word.
    """

    mnemonic: str
    kind: str
    size: int
    reads: tuple[tuple[int, str], ...]
    writes: tuple[int, ...]
    updated: int | None = None
    words: int = 0
    base: int | None = None
    index: int | None = None
    offset: int = 0
    double: bool = False
    conditional: bool = False
    sets_flags: bool = False
    writes_pc: bool = False
    fpu: bool = False


def _disassembler() -> Cs:
    disassembler = Cs(CS_ARCH_ARM, CS_MODE_THUMB | CS_MODE_MCLASS)
    disassembler.detail = True
    return disassembler


_CAPSTONE = _disassembler()
_REGISTERS = {f"r{n}": n for n in range(13)} | {"sb": 9, "sl": 10, "fp": 11, "ip": 12}
_REGISTERS |= {"sp": 13, "lr": 14, "pc": 15} | {f"s{n}": 32 + n for n in range(32)}


def _registers(number: int) -> tuple[int, ...]:
    """A capstone register as ours; D registers become two, status registers none."""
    name = _CAPSTONE.reg_name(number) or ""
    if name in _REGISTERS:
        return (_REGISTERS[name],)
    if name.startswith("d") and name[1:].isdigit() and int(name[1:]) < 16:
        first = 32 + 2 * int(name[1:])
        return (first, first + 1)
    return ()


def _kind(name: str, shifted: bool) -> str:
    if name in _MULTIPLE:
        return "load_multiple" if name.lstrip("v").startswith(("ld", "pop")) else "store_multiple"
    if name in {"nop", "hint", "yield", "pld", "pli"}:
        return "nop"
    for prefix, kind in (("ldr", "load"), ("vldr", "load"), ("str", "store"), ("vstr", "store")):
        if name.startswith(prefix):
            return kind
    if name.startswith("v") or name in {"fmstat", "fconsts", "fconstd"}:  # the last two are VMOV #number
        return "float"
    sets = (("it", {"it"}), ("branch", _BRANCHES), ("divide", {"sdiv", "udiv"}), ("multiply", _MULTIPLY))
    for kind, names in (*sets, ("bitfield", _BITFIELD), ("shift", _SHIFTS)):
        if name in names:
            return kind
    if shifted:
        return "alu_shifted"
    return "add_move" if name in _ADD_MOVE else "alu"


@lru_cache(maxsize=65536)
def decode(code: bytes) -> Instruction:
    """The instruction with this machine code, 2 or 4 bytes."""
    found = next(_CAPSTONE.disasm(code, 0, 1), None)
    if found is None:
        return Instruction("?", "unknown", len(code), (), ())
    return _classify(found, _CAPSTONE.insn_name(found.id))


def _destinations(name: str, kind: str, operands: list[Any]) -> int:
    """How many of the leading register operands are written."""
    if kind in {"store", "store_multiple", "branch", "nop", "it"} or name in _NO_RESULT:
        return 0
    if kind == "load_multiple":
        return len(operands)
    two = name in {"smull", "umull"} or name in _ADDEND_FIRST
    if name == "vmov":  # vmov r0, r1, d0 writes two; vmov d0, r0, r1 one
        two = len(operands) == 3 and all(
            o.type == CS_OP_REG and _registers(o.reg)[:1] < (16,) for o in operands[:2]
        )
    return 2 if two else 1


def _classify(found: Any, name: str) -> Instruction:
    operands = list(found.operands)
    memory = next((o.mem for o in operands if o.type == CS_OP_MEM), None)
    shifted = any(o.type == CS_OP_REG and o.shift.type and o.shift.value for o in operands)
    kind = _kind(name, shifted)
    if name == "mov" and shifted:
        kind = "shift"
    double = ".f64" in found.mnemonic
    reads: list[tuple[int, str]] = []
    writes: list[int] = []
    base = index = updated = None
    listed = kind in {"load_multiple", "store_multiple"}
    if listed and memory is None:  # the stack pointer is implied, or the first operand is the address
        pointer = 13 if name in {"push", "pop", "vpush", "vpop"} else _registers(operands.pop(0).reg)[0]
        reads.append((pointer, INDEX))
        if found.writeback or name in {"push", "pop", "vpush", "vpop"}:
            writes.append(pointer)
            updated = pointer
    if memory is not None:
        base = next(iter(_registers(memory.base)), None)
        index = next(iter(_registers(memory.index)), None)
        reads += [(register, INDEX) for register in (base, index) if register is not None]
        if found.writeback and base is not None:
            writes.append(base)
            updated = base
    destinations = _destinations(name, kind, operands)
    accumulates = name.startswith(("vmla", "vmls", "vfma", "vfms", "vfnm", "vnmla", "vnmls"))
    words = 0
    for place, operand in enumerate(operands):
        if operand.type != CS_OP_REG:
            continue
        registers = _registers(operand.reg)
        words += len(registers)
        if place < destinations:
            writes += registers
            if name in _ADDEND_FIRST or accumulates:
                reads += [(register, ADDEND) for register in registers]
            elif name in {"bfi", "bfc", "movt"} or (
                len(operands) == 2 and kind in {"alu", "shift", "add_move"} and _reads_first(name, operands)
            ):
                reads += [(register, PLAIN) for register in registers]
        else:
            how = _consumed(name, kind, place, operand)
            reads += [(register, how) for register in registers]
    if kind in {"load", "store"} and name not in {"ldr", "str", "vldr", "vstr", "ldrex", "strex"}:
        words = 0
    reads_writes = [*(register for register, _ in reads), *writes]
    return Instruction(
        mnemonic=name,
        kind=kind,
        size=found.size,
        reads=tuple(r for r in reads if r[0] != 15),
        writes=tuple(w for w in writes if w != 15),
        updated=updated,
        words=words if memory is not None or listed else 0,
        base=base,
        index=index,
        offset=memory.disp if memory is not None else 0,
        double=double,
        conditional=name in {"cbz", "cbnz"} or (name == "b" and found.mnemonic.partition(".")[0] != "b"),
        sets_flags=bool(found.update_flags) or name in _NO_RESULT,
        fpu=any(register >= 32 for register in reads_writes),
        writes_pc=name in {"b", "bl", "bx", "blx", "cbz", "cbnz", "tbb", "tbh"} or 15 in writes,
    )


def _reads_first(name: str, operands: list[Any]) -> bool:
    """Two-operand forms such as `lsls r0, r1` by register read their destination too."""
    return name not in {"mov", "movw", "mvn", "adr"} and operands[1].type == CS_OP_REG


def _consumed(name: str, kind: str, place: int, operand: Any) -> str:
    if kind in {"store", "store_multiple"}:
        return DATA
    if name in _ADDEND_LAST and place == 3:
        return ADDEND
    if operand.shift.type and operand.shift.value:
        return (
            PLAIN if name in {"sxtb16", "uxtb16", "sxtb", "uxtb", "sxth", "uxth", "ssat", "usat"} else SHIFTED
        )
    extracts_first = {"ubfx", "sbfx", "rbit", "rev", "rev16", "revsh", "bfi"}
    extracts_last = {"sxtab", "sxtah", "uxtab", "uxtah", "sxtab16", "uxtab16", "pkhbt"}
    if name == "pkhtb" or (name in extracts_first and place == 1) or (name in extracts_last and place == 2):
        return SHIFTED
    return PLAIN


@lru_cache(maxsize=65536)
def decode_block(code: bytes) -> tuple[Instruction, ...]:
    """The instructions of a block, with what an IT instruction makes conditional marked."""
    instructions: list[Instruction] = []
    place = covered = 0
    while place + 2 <= len(code):
        size = 4 if code[place + 1] >= 0xE8 else 2  # ARMv7-M ARM, A5.1: 11101, 11110 and 11111 begin 32 bits
        instruction = decode(code[place : place + size])
        if covered:
            covered -= 1
            flags = instruction.kind == "alu" and instruction.mnemonic in _NO_RESULT
            instruction = replace(instruction, conditional=True, sets_flags=flags)
        elif instruction.kind == "it":
            mask = code[place] & 15
            covered = 4 - ((mask & -mask).bit_length() - 1)
        instructions.append(instruction)
        place += size
    return tuple(instructions)


def pieces(code: bytes) -> list[bytes]:
    """The machine code of each instruction of a block."""
    found = []
    for instruction in decode_block(code):
        found.append(code[: instruction.size])
        code = code[instruction.size :]
    return found


def is_cut(code: bytes) -> bool:
    """The last instruction is half there. QEMU hands out no more of one that lies across its pages."""
    place = 0
    while place + 2 <= len(code):
        place += 4 if code[place + 1] >= 0xE8 else 2
    return place > len(code)


def disassemble(address: int, code: bytes) -> list[str]:
    """The block as text, one line per instruction."""
    lines = []
    for piece in pieces(code):
        found = next(_CAPSTONE.disasm(piece, address, 1), None)
        text = f"{found.mnemonic} {found.op_str}" if found else f"? {piece.hex()}"
        lines.append(f"{address:08x}  {text}".rstrip())
        address += len(piece)
    return lines
