/* Executed blocks, the edges between them, and the trace they are written to. */
#ifndef TINYHIL_BLOCK_H
#define TINYHIL_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { MAX_REGIONS = 4 };

/* What is counted per block. Each region adds its own four after these. */
enum { EXECUTED, MISPREDICTED, ICACHE_MISSES, UNALIGNED, BLOCK_COUNTERS };
enum { ACCESSES, LOAD_MISSES, STORE_MISSES, WRITEBACKS, REGION_COUNTERS };
enum { ALL_COUNTERS = BLOCK_COUNTERS + MAX_REGIONS * REGION_COUNTERS };

struct edge {
    struct block *to;
    uint64_t count;
    uint64_t written; /* the count when the last segment was written */
};

/* A run of instructions that is entered at its first and left after its last, as QEMU translates it. */
struct block {
    uint64_t count[ALL_COUNTERS];
    uint64_t written[ALL_COUNTERS];
    struct edge *edges; /* the busiest come first */
    uint32_t edge_count;
    uint32_t edge_room;
    uint32_t address;
    uint32_t size;         /* bytes */
    uint32_t instructions; /* number */
    uint32_t id;
    uint32_t fetched_at;   /* 1 + the I-cache's fills when all of this block's lines were last seen there */
    uint8_t conditional; /* ends in a conditional branch, which the predictor watches */
    uint8_t published;   /* its line is in the trace */
    uint8_t code[];
};

/* The block with this address and these bytes, made if it is new. NULL: out of memory. */
struct block *block_find(uint32_t address, uint32_t instructions, const uint8_t *code, uint32_t size);

/* Starts anew, with no blocks and no segments. */
void blocks_forget(void);

/* Counts one step from `from` to `to`. */
void block_step(struct block *from, struct block *to);

/* Writes everything counted since the last call as one segment that began at `mark`. */
void blocks_write_segment(FILE *trace, uint32_t mark, unsigned regions);

#endif
