/* The recorder for the Unicorn twin: the same blocks, steps, predictor and instruction cache, behind
 * Unicorn's block hook. Data is not recorded: Unicorn 2.1 leaves a stale IT state behind a memory hook
 * inside an IT block. The library needs no header of Unicorn: its one function is handed over.
 * Nothing here stops the emulation: a block that is stopped and entered again would count twice. */
#include "../step.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_MARKS = 4096, RECENT = 1 << 14, MAX_BLOCK_BYTES = 8192 };

typedef int (*mem_read_fn)(void *uc, uint64_t address, void *bytes, size_t size);

static FILE *trace;
static struct stepper stepper;
static mem_read_fn mem_read;
static uint32_t marks[MAX_MARKS];
static unsigned mark_count;
static uint32_t segment_mark;
static struct recent {
    uint32_t address, size;
    struct block *block;
    bool mark;
} recent[RECENT];

#define EXPORT __attribute__((visibility("default")))

/* One recording per process at a time. False: the file or the cache's geometry is no good. */
EXPORT bool twin_open(const char *path, const char *icache, mem_read_fn read) {
    blocks_forget();
    memset(&stepper, 0, sizeof stepper);
    memset(recent, 0, sizeof recent);
    mem_read = read;
    mark_count = segment_mark = 0;
    stepper.edges = true;
    if (*icache && !(stepper.fetch = cache_parse(&stepper.icache, icache)))
        return false;
    if (!(trace = fopen(path, "w")))
        return false;
    fputs("tinyhil-trace 1\nwith edges=1\n", trace);
    if (*icache)
        fprintf(trace, "with icache=%s\n", icache);
    return true;
}

EXPORT bool twin_mark(uint32_t address) {
    if (mark_count == MAX_MARKS)
        return false;
    marks[mark_count++] = address & ~UINT32_C(1);
    return true;
}

static uint32_t count_instructions(const uint8_t *code, uint32_t size) {
    uint32_t count = 0;
    for (uint32_t at = 0; at + 2 <= size; count++)
        at += (code[at + 1] & 0xf8) >= 0xe8 ? 4 : 2;
    return count;
}

static bool look_up(void *uc, struct recent *entry, uint32_t address, uint32_t size) {
    uint8_t code[MAX_BLOCK_BYTES];
    if (size > sizeof code || mem_read(uc, address, code, size))
        return false;
    entry->block = block_find(address, count_instructions(code, size), code, size);
    entry->address = address;
    entry->size = size;
    entry->mark = false;
    for (unsigned i = 0; i < mark_count; i++)
        entry->mark |= marks[i] == address;
    return entry->block != NULL;
}

EXPORT void twin_block(void *uc, uint64_t address64, uint32_t size, void *user) {
    uint32_t address = (uint32_t)address64;
    struct recent *entry = &recent[(address >> 1) & (RECENT - 1)];
    (void)user;
    if (!size || ((entry->address != address || entry->size != size || !entry->block) &&
                  !look_up(uc, entry, address, size))) {
        stepper.previous = NULL;
        return;
    }
    if (entry->mark) {
        blocks_write_segment(trace, segment_mark, 0);
        segment_mark = address;
    }
    step_into(&stepper, entry->block);
}

EXPORT void twin_close(void) {
    blocks_write_segment(trace, segment_mark, 0);
    fputs("end\n", trace);
    fclose(trace);
}
