#include "step.h"

/* Two-bit saturating counters by the address of the branch, since two blocks can end in the same one.
 * From -1 to 2; 1 and 2 predict "taken". */
static void predict(struct stepper *stepper, struct block *branch, bool taken) {
    int8_t *counter = &stepper->counters[((branch->address + branch->size) >> 1) & (PREDICTORS - 1)];
    branch->count[MISPREDICTED] += (*counter >= 1) != taken;
    if (taken && *counter < 2)
        ++*counter;
    else if (!taken && *counter > -1)
        --*counter;
}

static void fetch(struct cache *icache, struct block *block) {
    if (block->fetched_at == icache->fills + 1)
        return; /* nothing was evicted since all of its lines were seen in the cache */
    uint32_t line = block->address >> icache->line_shift;
    uint32_t end = (block->address + block->size - 1) >> icache->line_shift;
    uint32_t fills = icache->fills;
    for (; line <= end; line++)
        if (cache_owner(icache, line, false) < 0)
            block->count[ICACHE_MISSES] += cache_touch(icache, line, false, 0).miss;
    if (icache->replacement == ROUND_ROBIN && icache->sets && icache->fills == fills)
        block->fetched_at = fills + 1;
}

void step_into(struct stepper *stepper, struct block *block) {
    struct block *previous = stepper->previous;
    block->count[EXECUTED]++;
    if (stepper->edges && previous) {
        block_step(previous, block);
        if (previous->conditional)
            predict(stepper, previous, block->address != previous->address + previous->size);
    }
    if (stepper->fetch)
        fetch(&stepper->icache, block);
    stepper->previous = block;
}
