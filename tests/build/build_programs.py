"""A small runtime and small networks for the build tests."""

from __future__ import annotations

from collections.abc import Mapping

from tinyhil.harness.engine import Sources

MAIN = """
#include "hal.h"
#include "tinyhil_network.h"
extern const char th_build_id[];
void th_fault(const uint32_t *frame, uint32_t exc_return) __attribute__((noreturn));
void th_fault(const uint32_t *frame, uint32_t exc_return) {
    (void)exc_return;
    hal_exit(frame ? 70 : 71); /* 71: the stack pointer was no longer in the stack */
}
static void print(const char *text) {
    while (*text) {
        hal_putc((uint8_t)*text++);
    }
    hal_putc('\\n');
}
uint32_t instrumentation[4] __attribute__((section(".instrumentation")));
int main(void) {
    hal_init();
    print(th_build_id);
    if (instrumentation[0] != 0 || (hal_caches() != HAL_UNREADABLE && (hal_caches() & 8u))) {
        return 90;
    }
    instrumentation[0] = hal_clock_hz() + hal_cycles();
    hal_exit(th_network.run());
}
"""

NETWORK = """
#include "tinyhil_network.h"
static uint8_t arena[%(arena)d] __attribute__((section(".arena")));
static volatile float scale = 1.5f;
static volatile int initialised = 7;
static volatile int cleared;
static const int8_t weights[%(weights)d] = {1, 2, 3};
static int run(void) {
    arena[0] = (uint8_t)cleared;
    scale = scale * 2.0f;
    int last = weights[%(weights)d - 1 - cleared];
    return (int)scale * 10 + initialised + cleared + arena[0] + last + %(status)d;
}
const struct th_network th_network = {.arena = arena, .arena_size = sizeof arena, .run = run};
"""


def sources(
    text: str = NETWORK,
    *,
    arena: int = 64,
    weights: int = 16,
    status: int = 0,
    files: Mapping[str, str] | None = None,
    name: str = "tiny",
) -> Sources:
    """A network that returns 37 + `status` when its FPU, .data and .bss are all in order."""
    values = {"arena": arena, "weights": weights, "status": status}
    return Sources(
        engine="test",
        version="1",
        network=name,
        files={"network.c": text % values if text is NETWORK else text, **(files or {})},
        layers=(),
        inputs=(),
        outputs=(),
        arena=arena,
    )
