"""The faults of the fault suite: how each is injected, and what a user must get to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench_injections import (
    Bench,
    Frames,
    asked_again_soon,
    board_is_held,
    brown_out,
    disk_is_full,
    erase_does_nothing,
    firmware_with,
    flashed,
    garbage,
    noise,
    port_is_missing,
    port_is_open_elsewhere,
    port_vanishes,
    power,
    power_that_helps,
    reorder,
    second_board,
    stale_firmware,
    switch,
    transmit,
    unplug_after_two_requests,
    unplug_while_running,
    wrong_baud,
)

HEALTHY = 0
NETWORK, BENCH = 1, 10  # exit codes


@dataclass(frozen=True)
class Fault:
    """`inject` breaks a healthy bench. `exit_code` and `words` are what `tinyhil run` must end with and
    say; `kept` tells whether the board may be out of use afterwards. `runs` is the time it is given, in
    healthy measurements: what must fail may use all of it; what must succeed does not."""

    name: str
    inject: Callable[[Bench], None]
    exit_code: int
    words: str
    kept: bool = False
    runs: float = 0.0
    transport: str = "serial"

    def timeout(self, healthy: float) -> float:
        """Seconds for the measurement, where a healthy one takes `healthy` at this moment on this machine.
        So nothing depends on how fast that is, and every wait is still bounded."""
        return max(0.6, healthy) * (self.runs or (30.0 if self.exit_code == HEALTHY else 4.0))


WATCHDOG = (
    "    *(volatile uint32_t *)0x40003000u = 0x5555u; *(volatile uint32_t *)0x40003008u = 1;"
    " *(volatile uint32_t *)0x40003000u = 0xCCCCu; for (;;) { }"
)

FAULTS = (
    Fault(
        "probe unplugged before", switch(unplugged=True), BENCH, "ProbeNotFound.*no debug probe with id T1"
    ),
    Fault("probe unplugged while flashing", switch(unplug_after=700), BENCH, "ProbeNotFound.*was lost"),
    Fault(
        "probe unplugged while running",
        flashed(unplug_while_running),
        BENCH,
        "ProbeNotFound.*in the middle of a measurement",
    ),
    Fault("probe in use", switch(probe_in_use=True), BENCH, "BoardBusy.*another program has opened probe T1"),
    Fault("board without power", switch(unpowered=True), BENCH, "no chip answers behind it", kept=True),
    Fault("stuck bit", switch(stuck_bit=0x0800_0102), BENCH, "FlashVerifyFailed.*0x08000102", kept=True),
    Fault(
        "erase that does nothing",
        erase_does_nothing,
        BENCH,
        "FlashVerifyFailed.*0x0800000",
        kept=True,
    ),
    Fault("flash busy for ever", switch(busy_for_ever=True), BENCH, "flash could not be written", kept=True),
    Fault(
        "readout protection level 1",
        switch(rdp=0x55),
        BENCH,
        r"readout protection \(RDP level 1\)",
        kept=True,
    ),
    Fault("readout protection level 2", switch(rdp=0xCC), BENCH, "RDP level 2", kept=True),
    Fault("stale firmware", flashed(stale_firmware), HEALTHY, ""),
    Fault(
        "silent UART",
        flashed(switch(silent=True)),
        BENCH,
        "NoAnswer.*up and waiting.*serial line is dead",
        kept=True,
    ),
    Fault(
        "garbage on the UART",
        flashed(transmit(garbage)),
        BENCH,
        "BadFrame.*damaged frames",
        kept=True,
    ),
    Fault(
        "every frame truncated",
        flashed(transmit(lambda: Frames(lambda n, data: data[: len(data) // 2] + b"\0"))),
        BENCH,
        "BadFrame.*damaged frames",
        kept=True,
    ),
    Fault(
        "some frames truncated",
        asked_again_soon(transmit(lambda: Frames(lambda n, data: data if n % 4 else data[: len(data) // 2]))),
        HEALTHY,
        "",
    ),
    Fault(
        "frames lost",
        asked_again_soon(transmit(lambda: Frames(lambda n, data: data if n % 5 else b""))),
        HEALTHY,
        "",
    ),
    Fault("frames duplicated", transmit(lambda: Frames(lambda n, data: data + data)), HEALTHY, ""),
    Fault("frames reordered", asked_again_soon(transmit(reorder)), HEALTHY, ""),
    Fault("1 % byte errors", transmit(lambda: noise(0.01)), HEALTHY, ""),
    Fault("wrong baud rate", flashed(wrong_baud), BENCH, "BadFrame.*baud|NoAnswer.*baud", kept=True),
    Fault("brown-out reset loop", flashed(brown_out), BENCH, "TargetReset.*reset by a brown-out", kept=True),
    Fault(
        "hard fault",
        firmware_with("    *(volatile int *)0xCC000000u = 1;"),
        NETWORK,
        "HardFault.*without memory: 0xcc000000",
    ),
    Fault(
        "undefined instruction",
        firmware_with("    __builtin_trap();"),
        NETWORK,
        "HardFault.*undefined instruction",
    ),
    Fault(
        "firmware hangs",
        firmware_with("    for (volatile int i = 0;;) { i = 0; }"),
        BENCH,
        "NoAnswer.*still running",
    ),
    Fault(
        "watchdog reset mid-run",
        firmware_with(WATCHDOG),
        BENCH,
        "TargetReset.*reset by the independent watchdog",
        kept=True,
    ),
    Fault(
        "rtt: probe unplugged while running",
        unplug_after_two_requests,
        BENCH,
        "ProbeNotFound.*was lost",
        transport="rtt",
    ),
    Fault(
        "rtt: hard fault",
        firmware_with("    *(volatile int *)0xCC000000u = 1;"),
        NETWORK,
        "HardFault.*without memory: 0xcc000000",
        transport="rtt",
    ),
    Fault(
        "rtt: firmware hangs",
        firmware_with("    for (volatile int i = 0;;) { i = 0; }"),
        BENCH,
        "NoAnswer.*still running",
        transport="rtt",
    ),
    Fault(
        "rtt: control block written over",
        firmware_with("    extern volatile int th_rtt[]; for (int i = 0; i < 16; i++) { th_rtt[i] = -1; }"),
        BENCH,
        "NoAnswer.*up and waiting.*RTT is dead",
        kept=True,
        transport="rtt",
    ),
    Fault(
        "rtt: watchdog reset mid-run",
        firmware_with(WATCHDOG),
        BENCH,
        "TargetReset.*reset by the independent watchdog",
        kept=True,
        transport="rtt",
    ),
    Fault("serial port vanishes", flashed(port_vanishes), BENCH, "serial port vanished"),
    Fault("serial port missing", port_is_missing, BENCH, "no-such-port cannot be opened", kept=True),
    Fault("serial port busy", port_is_open_elsewhere, BENCH, "BoardBusy.*another program has"),
    Fault("wrong board", switch(device_id=0x451), BENCH, "WrongBoard.*0x451.*0x449.*Nothing was written"),
    Fault("board held by another process", board_is_held, BENCH, "BoardBusy.*is held by"),
    Fault("one of two boards held", second_board, HEALTHY, ""),
    Fault(
        "power command fails",
        flashed(power(["false"], silent=True)),
        BENCH,
        "NoAnswer.*power-cycle: BenchError",
        kept=True,
        runs=8.0,
    ),
    Fault("only a power-cycle helps", flashed(power_that_helps), HEALTHY, "", runs=12.0),
    Fault("only a reset helps", switch(silent=True, heals_at_reset=True), HEALTHY, ""),
    Fault("full disk while storing", disk_is_full, BENCH, "StoreError"),
)
