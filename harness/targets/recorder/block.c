#include "block.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct block **table; /* open addressing; at most half full */
static size_t table_size;
static struct block **in_order;
static size_t block_count;
static uint32_t segment_count;

static size_t slot_of(uint32_t address, uint32_t size) {
    return ((address >> 1) * UINT32_C(2654435761) ^ size * UINT32_C(40503)) & (table_size - 1);
}

static bool grow(void) {
    size_t old_size = table_size;
    struct block **old = table;
    size_t wanted = old_size ? old_size * 2 : 8192;
    struct block **fresh = calloc(wanted, sizeof *fresh);
    struct block **ordered = realloc(in_order, wanted * sizeof *ordered);
    if (!fresh || !ordered)
        return false;
    table = fresh;
    table_size = wanted;
    in_order = ordered;
    for (size_t i = 0; i < block_count; i++) {
        size_t slot = slot_of(in_order[i]->address, in_order[i]->size);
        while (table[slot])
            slot = (slot + 1) & (table_size - 1);
        table[slot] = in_order[i];
    }
    free(old);
    return true;
}

/* Does the block end in a branch with a condition? Encodings T1 and T3 of B, and CBZ/CBNZ
 * (Armv7-M Architecture Reference Manual, A7.7.12 and A7.7.21). */
static bool ends_in_condition(const uint8_t *code, uint32_t size) {
    uint32_t last = size >= 2 ? code[size - 2] | code[size - 1] << 8 : 0;
    uint32_t before = size >= 4 ? code[size - 4] | code[size - 3] << 8 : 0;
    if ((before & 0xf800) == 0xf000 && (last & 0xd000) == 0x8000)
        return (before >> 6 & 0xe) != 0xe;
    if ((last & 0xf500) == 0xb100)
        return true;
    return (last & 0xf000) == 0xd000 && (last >> 8 & 0xe) != 0xe;
}

struct block *block_find(uint32_t address, uint32_t instructions, const uint8_t *code, uint32_t size) {
    if (block_count * 2 >= table_size && !grow())
        return NULL;
    size_t slot = slot_of(address, size);
    for (; table[slot]; slot = (slot + 1) & (table_size - 1)) {
        struct block *seen = table[slot];
        if (seen->address == address && seen->size == size && !memcmp(seen->code, code, size))
            return seen;
    }
    struct block *block = calloc(1, sizeof *block + size);
    if (!block)
        return NULL;
    block->address = address;
    block->size = size;
    block->instructions = instructions;
    block->id = (uint32_t)block_count;
    block->conditional = ends_in_condition(code, size);
    memcpy(block->code, code, size);
    table[slot] = block;
    in_order[block_count++] = block;
    return block;
}

void blocks_forget(void) {
    for (size_t i = 0; i < block_count; i++) {
        free(in_order[i]->edges);
        free(in_order[i]);
    }
    free(in_order);
    free(table);
    in_order = NULL;
    table = NULL;
    table_size = block_count = 0;
    segment_count = 0;
}

void block_step(struct block *from, struct block *to) {
    for (uint32_t i = 0; i < from->edge_count; i++) {
        struct edge *edge = &from->edges[i];
        if (edge->to != to)
            continue;
        edge->count++;
        if (i && edge->count > edge[-1].count) {
            struct edge busier = *edge;
            *edge = edge[-1];
            edge[-1] = busier;
        }
        return;
    }
    if (from->edge_count == from->edge_room) {
        uint32_t room = from->edge_room ? from->edge_room * 2 : 2;
        struct edge *edges = realloc(from->edges, room * sizeof *edges);
        if (!edges)
            abort(); /* a trace with holes would be worse than none */
        from->edges = edges;
        from->edge_room = room;
    }
    from->edges[from->edge_count++] = (struct edge){.to = to, .count = 1};
}

static void publish(FILE *trace, struct block *block) {
    if (block->published)
        return;
    block->published = 1;
    fprintf(trace, "block %" PRIu32 " %08" PRIx32 " %" PRIu32 " ", block->id, block->address, block->instructions);
    for (uint32_t i = 0; i < block->size; i++)
        fprintf(trace, "%02x", block->code[i]);
    fputc('\n', trace);
}

static void write_counts(FILE *trace, struct block *block, unsigned regions) {
    fprintf(trace, "ran %" PRIu32, block->id);
    for (unsigned i = 0; i < BLOCK_COUNTERS + regions * REGION_COUNTERS; i++) {
        fprintf(trace, " %" PRIu64, block->count[i] - block->written[i]);
        block->written[i] = block->count[i];
    }
    fputc('\n', trace);
}

static void write_edges(FILE *trace, struct block *block) {
    for (uint32_t i = 0; i < block->edge_count; i++) {
        struct edge *edge = &block->edges[i];
        if (edge->count == edge->written)
            continue;
        publish(trace, edge->to);
        fprintf(trace, "edge %" PRIu32 " %" PRIu32 " %" PRIu64 "\n", block->id, edge->to->id,
                edge->count - edge->written);
        edge->written = edge->count;
    }
}

void blocks_write_segment(FILE *trace, uint32_t mark, unsigned regions) {
    uint64_t instructions = 0;
    for (size_t i = 0; i < block_count; i++) {
        struct block *block = in_order[i];
        instructions += (block->count[EXECUTED] - block->written[EXECUTED]) * block->instructions;
    }
    fprintf(trace, "segment %" PRIu32 " %08" PRIx32 " %" PRIu64 "\n", segment_count++, mark, instructions);
    for (size_t i = 0; i < block_count; i++) {
        struct block *block = in_order[i];
        if (memcmp(block->count, block->written, sizeof block->count)) {
            publish(trace, block);
            write_counts(trace, block, regions);
        }
        write_edges(trace, block);
    }
}
