#include "memory.h"

#include "instrumentation.h"
#include "tinyhil_network.h"

/* `low` and `high` bound the bytes of the arena touched so far; all others hold the pattern. */
INSTRUMENTATION static struct {
    uint32_t low, high;
    uint32_t round;
    uint32_t stack, stack_round;
} seen;

/* Differs from byte to byte, and at every byte from round to round. */
static inline uint8_t pattern(uintptr_t address, uint32_t round) {
    return (uint8_t)((((uint32_t)address * 0x9E3779B1u) >> 24) ^ (round * 0x35u));
}

static void paint(uint8_t *start, uint32_t size) {
    for (uint32_t i = 0; i < size; i++) {
        start[i] = pattern((uintptr_t)(start + i), seen.round);
    }
}

static void scan_arena(void) {
    const uint8_t *arena = th_network.arena;
    uint32_t low = 0, high = th_network.arena_size;
    while (low < seen.low && arena[low] == pattern((uintptr_t)(arena + low), seen.round)) {
        low++;
    }
    while (high > seen.high && arena[high - 1] == pattern((uintptr_t)(arena + high - 1), seen.round)) {
        high--;
    }
    seen.low = low;
    seen.high = high;
}

static void paint_untouched(void) {
    uint32_t rest = seen.high > seen.low ? seen.high : seen.low;
    paint(th_network.arena, seen.low);
    paint(th_network.arena + rest, th_network.arena_size - rest);
}

#ifdef __arm__

#define CANARY_BYTES 32u
#define CANARY 0xC5u

/* Placed by the linker script: guards lie right before and behind the arena; the stack is the lowest
 * thing in its memory, so that running out of it faults. */
extern uint8_t _arena_guard_start[], _arena_start[], _arena_end[], _arena_guard_end[];
extern uint8_t _stack_start[], _stack_end[];

static void set_canary(uint8_t *start, const uint8_t *end) {
    for (; start < end; start++) {
        *start = CANARY;
    }
}

static int written(const uint8_t *start, const uint8_t *end) {
    for (; start < end; start++) {
        if (*start != CANARY) {
            return 1;
        }
    }
    return 0;
}

static void set_canaries(void) {
    set_canary(_arena_guard_start, _arena_start);
    set_canary(_arena_end, _arena_guard_end);
    set_canary(_stack_start, _stack_start + CANARY_BYTES);
}

static uint32_t overruns(void) {
    return (written(_arena_guard_start, _arena_start) ? OVERRUN_BELOW_ARENA : 0u) |
           (written(_arena_end, _arena_guard_end) ? OVERRUN_ABOVE_ARENA : 0u) |
           (written(_stack_start, _stack_start + CANARY_BYTES) ? OVERRUN_STACK : 0u);
}

static uint32_t stack_size(void) {
    return (uint32_t)(_stack_end - _stack_start);
}

/* Everything below this function's own frame is free, and must stay untouched by the loops here:
 * hence volatile (no memset in their place) and no calls but the one that is measured. */
__attribute__((noinline)) int memory_call(int (*work)(void)) {
    volatile uint8_t *top;
    __asm volatile("mov %0, sp" : "=r"(top));
    volatile uint8_t *bottom = _stack_start + CANARY_BYTES;
    uint32_t round = ++seen.stack_round;
    for (volatile uint8_t *byte = bottom; byte < top; byte++) {
        *byte = pattern((uintptr_t)byte, round);
    }
    int status = work();
    while (bottom < top && *bottom == pattern((uintptr_t)bottom, round)) {
        bottom++;
    }
    uint32_t depth = (uint32_t)(top - bottom);
    seen.stack = depth > seen.stack ? depth : seen.stack;
    return status;
}

#else /* the host: the sanitizers watch the ends of the arena, and its stack is no figure of interest */

static void set_canaries(void) {
}

static uint32_t overruns(void) {
    return 0;
}

static uint32_t stack_size(void) {
    return 0;
}

int memory_call(int (*work)(void)) {
    return work();
}

#endif

void memory_init(void) {
    seen.low = th_network.arena_size;
    seen.high = 0;
    paint_untouched();
    set_canaries();
}

void memory_paint_arena(void) {
    scan_arena();
    seen.round++;
    paint_untouched();
}

struct memory_report memory_scan(void) {
    scan_arena();
    struct memory_report report = {seen.low, seen.high, seen.stack, stack_size(), overruns()};
    return report;
}
