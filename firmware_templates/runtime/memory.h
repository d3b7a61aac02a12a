/* What the network touches: painted before it runs, read back after. docs/wire.md, "Memory". */
#ifndef TINYHIL_MEMORY_H
#define TINYHIL_MEMORY_H

#include <stdint.h>

enum memory_overrun {
    OVERRUN_BELOW_ARENA = 1u << 0,
    OVERRUN_ABOVE_ARENA = 1u << 1,
    OVERRUN_STACK = 1u << 2,
};

struct memory_report {
    uint32_t arena_low;  /* offset of the first touched byte */
    uint32_t arena_high; /* offset behind the last touched byte; 0 if none was touched */
    uint32_t stack;      /* bytes below the frame that called the network, deepest call so far */
    uint32_t stack_size; /* bytes that the linker gave the stack */
    uint32_t overruns;   /* of enum memory_overrun */
};

/* Once after reset: paints the arena and sets the canaries. */
void memory_init(void);

/* Notes what was touched since the last painting, and paints the rest with another pattern. A value
 * that happens to equal one pattern cannot hide a byte from the next. */
void memory_paint_arena(void);

/* Calls `work` on a freshly painted stack and notes how deep it went. Returns what `work` returns. */
int memory_call(int (*work)(void));

struct memory_report memory_scan(void);

#endif
