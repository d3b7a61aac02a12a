"""What a number depends on, and how two records differ in it.

The words of `Measurement.provenance`. Whoever measures writes them, whoever compares reads them.

=====================  =========================================================  ===========
key                    meaning                                                    stored with
=====================  =========================================================  ===========
compiler               `arm-none-eabi-gcc 12.2.1`                                 build
flags                  effective compiler flags, in order, without macros         build
defines                macros that the engine's own sources are compiled with     build
build_id               of the firmware: the hash of everything that went into it  build
prefer                 what the engine was asked to prefer: speed, ram or flash   build
float_io               whether the device converts float inputs and outputs       build
disabled               optimisations that were turned off                         build
instrumentation_bytes  RAM of the harness itself, not in `peak_ram`               build
caches                 core caches that are on: `I D`                             environment
accelerator            whether the flash accelerator is on                        environment
wait_states            of the flash                                               environment
counters               cycle counter and SysTick over the same stretch of code    environment
clock_measured_hz      core clock by the cycle counter and the host's clock       environment
emulator               `QEMU 7.2.22` and the plug-in's version                    environment
estimate               what is to be said of the estimated cycles, or why none    environment
probe                  unique id of the debug probe                               environment
git                    commit of the measured project, `-dirty` where it was      environment
tinyhil                version of tinyhil                                         environment
=====================  =========================================================  ===========

Other keys are kept too, as environment. The conditions are what the chip's registers said when the
firmware was greeted; `not readable` where an emulator has no such register.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinyhil.results.record import Measurement

BUILD_KEYS = frozenset(
    {
        "compiler",
        "flags",
        "defines",
        "build_id",
        "prefer",
        "float_io",
        "disabled",
        "instrumentation_bytes",
        "libraries",
    }
)

UNREADABLE = "not readable"

CONDITIONS = ("caches", "accelerator", "wait_states")
UNLIKE_KEYS = ("compiler", "flags", *CONDITIONS)
"""Provenance that changes what a number means: rows that differ here are not compared."""


@dataclass(frozen=True)
class Difference:
    """One thing in which two records differ. `unlike`: the difference forbids a comparison."""

    what: str
    base: str
    head: str
    unlike: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.base or '(not recorded)'} -> {self.head or '(not recorded)'}"


def split(provenance: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(build, environment): what the image was made of, and where it ran."""
    build = {key: value for key, value in provenance.items() if key in BUILD_KEYS}
    return build, {key: value for key, value in provenance.items() if key not in BUILD_KEYS}


def timing_model(record: Measurement) -> str:
    """Id of the timing model behind the estimate, or an empty string."""
    return record.cycles_est.model if record.cycles_est else ""


def _said(record: Measurement, key: str) -> str:
    """A condition that a record does not have could not be read: both say the same."""
    return record.provenance.get(key) or (UNREADABLE if key in CONDITIONS else "")


def differences(head: Measurement, base: Measurement) -> tuple[Difference, ...]:
    """All that differs between two records beyond their numbers; those that forbid comparing first."""
    decisive = {
        "model": (base.model.sha256, head.model.sha256),
        "board": (base.board, head.board),
        "mode": (base.mode, head.mode),
        "kind": (base.kind, head.kind),
        "clock": (f"{base.clock_hz} Hz", f"{head.clock_hz} Hz"),
        "timing model": (timing_model(base), timing_model(head)),
        **{key: (_said(base, key), _said(head, key)) for key in UNLIKE_KEYS},
    }
    others = {
        "engine": (
            f"{base.engine.name} {base.engine.version}",
            f"{head.engine.name} {head.engine.version}",
        )
    }
    for key in sorted(set(base.provenance) | set(head.provenance)):
        if key not in UNLIKE_KEYS:
            others[key] = (base.provenance.get(key, ""), head.provenance.get(key, ""))
    return tuple(
        Difference(what, old, new, unlike)
        for table, unlike in ((decisive, True), (others, False))
        for what, (old, new) in table.items()
        if old != new
    )
