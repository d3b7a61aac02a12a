"""What a reader must know of a row before comparing it with the row of another engine. Pure.

Engines differ by nature in more than kernels: what runs on the device, how the library was compiled, what
lies in the arena. None of it forbids a comparison; all of it is said beside the numbers.
"""

from __future__ import annotations

from tinyhil.results.record import Measurement


def notes_of(record: Measurement) -> tuple[str, ...]:
    """Short remarks on one row, most important first; why there is no figure, where there is none."""
    said = record.provenance
    if record.error is not None:
        return (first_sentence(record.error.message),)
    notes = []
    if said.get("float_io") == "true":
        notes.append("float in and out, converted on the device")
    if said.get("graph", "as in the file") != "as in the file":
        notes.append(f"after {said['graph']}")
    if said.get("library_kernels"):
        notes.append(f"{said['library_kernels']} kernels")
    if said.get("portable_layers", "none") != "none":
        notes.append(f"plain C, not the library: {said['portable_layers']}")
    if said.get("arena_persistent"):
        kept, other = int(said["arena_persistent"]), int(said["arena_non_persistent"])
        notes.append(f"arena {kept + other:,} B: {kept:,} persistent, {other:,} not")
    if said.get("disabled"):
        notes.append(f"turned off: {said['disabled']}")
    return tuple(notes)


def compiled_with(record: Measurement) -> tuple[str, ...]:
    """Compiler and flags of the row's own code, and of the library where it has one."""
    said = record.provenance
    if record.error is not None or not said.get("flags"):
        return ()
    lines = [" ".join(filter(None, (said.get("compiler", ""), said["flags"], said.get("defines", ""))))]
    if said.get("library"):
        name = f"library {said['library']} {said.get('library_version', '')}".rstrip()
        lines.append(f"{name}: {said.get('library_compiler', '')} {said.get('library_flags', '')}")
        differ = said.get("library_flags_differ", "")
        lines.append(f"in one of the two only: {differ}" if differ else "the same flags as our own code")
    return tuple(lines)


def optimisation(record: Measurement) -> str:
    """`-O2`, or `-O2, library -O3` where a library was compiled in another way; '' if not recorded."""
    own, library = _levels(record, "flags"), library_optimisation(record)
    return f"{own}, library {library}" if library and library != own else own


def library_optimisation(record: Measurement) -> str:
    """`-O3` of the row's library, several where its files differ; '' if there is none."""
    return _levels(record, "library_flags")


def _levels(record: Measurement, key: str) -> str:
    return " ".join(word for word in record.provenance.get(key, "").split() if word.startswith("-O"))


def first_sentence(message: str) -> str:
    """The message up to its first full stop or line end."""
    return message.splitlines()[0].split(". ")[0].rstrip(".") if message else ""
