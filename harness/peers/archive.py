"""What a static library tells of how it was built: core, float ABI, compiler and flags.

Read from the ELF members of the `ar` archive: the Arm build attributes, and the DWARF producer string
where the library was built with -g and GCC's own record of switches. Nothing is run.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.dwarf.compileunit import CompileUnit
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import ARMAttributesSection

from tinyhil.errors import UsageError

_MAGIC = b"!<arch>\n"
_HEADER = 60
# Values of the Arm build attributes (ABI for the Arm architecture, addenda32): Tag_CPU_arch, Tag_FP_arch.
_ARCHITECTURES = {11: "v6-M", 12: "v6S-M", 10: "v7", 13: "v7E-M", 16: "v8-M.baseline", 17: "v8-M.mainline"}
_FPUS = {0: "none", 5: "fpv4-sp-d16", 6: "fpv4-sp-d16", 7: "fpv5", 8: "fpv5"}


@dataclass(frozen=True)
class Object:
    """One member: `machine` as ELF says (EM_ARM, EM_X86_64), `architecture` v7E-M etc., `fpu` fpv4-sp-d16,
    fpv5, none or '' where not said; `hard_float` arguments in FPU registers; `producer` DWARF's, or ''."""

    name: str
    machine: str
    architecture: str
    fpu: str
    hard_float: bool
    producer: str


def objects(path: Path) -> tuple[Object, ...]:
    """The ELF members of the archive at `path`; UsageError if it is no static library of ELF objects."""
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        raise UsageError(f"{path}: not a static library (no `!<arch>` at its start)")
    try:
        found = tuple(_object(name, body) for name, body in _members(data) if body.startswith(b"\x7fELF"))
    except Exception as error:  # pyelftools has no one error for damaged files
        raise UsageError(f"{path}: a damaged static library ({error}); build it again") from error
    if not found:
        raise UsageError(f"{path}: holds no object file. Was it built with `ar rcs LIBRARY *.o`?")
    return found


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each member; long names are in the member `//`."""
    offset, names = len(_MAGIC), b""
    while offset + _HEADER <= len(data):
        name = data[offset : offset + 16].decode("ascii", "replace").rstrip()
        size = int(data[offset + 48 : offset + 58])
        start = offset + _HEADER
        body = data[start : start + size]
        if size < 0 or len(body) != size:
            raise ValueError(f"member {name!r} is cut off")
        if name == "//":
            names = body
        elif name not in ("/", "/SYM64/"):
            if name.startswith("/"):
                name = names[int(name[1:]) :].split(b"/\n")[0].decode("utf-8", "replace")
            yield name.rstrip("/"), body
        offset = start + size + size % 2


def _object(name: str, body: bytes) -> Object:
    elf = ELFFile(io.BytesIO(body))
    tags = _attributes(elf)
    architecture = tags.get("TAG_CPU_ARCH", -1)
    fpu = tags.get("TAG_FP_ARCH", 0)
    return Object(
        name=name,
        machine=str(elf["e_machine"]),
        architecture=_ARCHITECTURES.get(architecture, "" if architecture < 0 else f"code {architecture}"),
        fpu=_FPUS.get(fpu, f"code {fpu}") if tags else "",
        hard_float=tags.get("TAG_ABI_VFP_ARGS") == 1,
        producer=_producer(elf),
    )


def _attributes(elf: ELFFile) -> dict[str, int]:
    section = elf.get_section_by_name(".ARM.attributes")
    if not isinstance(section, ARMAttributesSection):
        return {}
    return {
        str(attribute.tag): attribute.value
        for vendor in section.iter_subsections()
        for part in vendor.iter_subsubsections()
        for attribute in part.iter_attributes()
        if isinstance(attribute.value, int)
    }


def _producer(elf: ELFFile) -> str:
    if not elf.has_dwarf_info():
        return ""
    unit: CompileUnit
    for unit in elf.get_dwarf_info().iter_CUs():
        value = unit.get_top_DIE().attributes.get("DW_AT_producer")
        if value is not None and isinstance(value.value, bytes):
            return value.value.decode("utf-8", "replace")
    return ""
