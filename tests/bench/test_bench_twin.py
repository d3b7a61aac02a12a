"""The emulated core's exceptions, seen by firmware: entry, return, SysTick, what a handler must not spoil."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from small_network import INPUT, OUTPUT

from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.hardware import HardwareTarget
from tinyhil.harness.targets.target import Job

# A vector table in RAM, so that the test has handlers of its own.
VECTORS = """
#include <stdint.h>
#include <string.h>
#define REG(address) (*(volatile uint32_t *)(address))
static uint32_t vectors[16] __attribute__((aligned(128)));
static volatile uint32_t ticks, faults;
static volatile float spoilt;

static void tick(void) {
    ticks++;
    spoilt = spoilt * 1.5f + 1.0f; /* uses the registers that the interrupted code may be using */
}

static void set_handler(uint32_t number, void (*handler)(void)) {
    memcpy(vectors, (const void *)REG(0xE000ED08), sizeof vectors);
    vectors[number] = (uint32_t)(uintptr_t)handler;
    REG(0xE000ED08) = (uint32_t)(uintptr_t)vectors;
}

/* Steps over the faulting instruction: its frame is on the stack, and 16-bit is what it was. */
__attribute__((naked)) static void step_over(void) {
    __asm volatile("ldr r0, [sp, #24]; adds r0, #2; str r0, [sp, #24]; movs r1, #1; mov r2, r1; mov r3, r1\\n"
                   "bx lr");
}
"""


@pytest.fixture
def run(plug_in: Callable[..., Any], build_network: Callable[..., Any]) -> Callable[..., Any]:
    place, _ = plug_in()

    def run(code: str) -> Any:
        firmware = build_network(code, prelude=VECTORS)
        return HardwareTarget((place,)).run(firmware, Job(((INPUT,),)), Deadline.after(120)).outputs[0][0]

    return run


def test_systick_interrupts_and_returns_without_a_trace(run: Callable[..., Any]) -> None:
    """Integers and floats are summed while it ticks; the last byte tells whether all came out right."""
    assert (
        run("""
    set_handler(15, tick);
    float sum = 0; uint32_t whole = 0, rounds = 0;
    REG(0xE000E014) = 999; REG(0xE000E018) = 0; REG(0xE000E010) = 7;
    for (; ticks < 20; rounds++) { sum += 0.5f; whole += 3; }
    REG(0xE000E010) = 0;
    arena[63] = whole == 3 * rounds && sum == 0.5f * rounds && rounds > 100 ? 77 : 1;
    """)[15]
        == 77
    )


def test_a_masked_interrupt_waits(run: Callable[..., Any]) -> None:
    assert (
        run("""
    set_handler(15, tick);
    ticks = 0;
    __asm volatile("cpsid i" ::: "memory");
    REG(0xE000E014) = 99; REG(0xE000E018) = 0; REG(0xE000E010) = 7;
    while (!(REG(0xE000ED04) & (1u << 26))) { }
    uint32_t before = ticks;
    __asm volatile("cpsie i; isb" ::: "memory");
    while (ticks == 0) { }
    REG(0xE000E010) = 0;
    arena[63] = before == 0 ? 78 : 1;
    """)[15]
        == 78
    )


def test_a_fault_handler_may_return(run: Callable[..., Any]) -> None:
    """What the handler changes in R1 to R3 comes back from the stack."""
    assert (
        run("""
    set_handler(6, step_over);
    uint32_t kept;
    __asm volatile("movs r1, #40; movs r2, #30; movs r3, #9; .short 0xDE01; adds %0, r1, r2; adds %0, %0, r3"
                   : "=l"(kept) : : "r0", "r1", "r2", "r3", "cc", "memory");
    arena[63] = (uint8_t)kept;
    """)[15]
        == 79
    )


def test_without_them_the_network_gives_its_own_output(run: Callable[..., Any]) -> None:
    assert run("(void)tick; (void)step_over; (void)set_handler;") == OUTPUT
