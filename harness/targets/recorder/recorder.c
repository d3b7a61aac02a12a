/* tinyhil's recorder: a QEMU plug-in that writes down which blocks of a Cortex-M firmware ran, and
 * how often. docs/timing.md describes the trace and each argument:
 *
 *   out=FILE                      where the trace goes (needed)
 *   marks=0xADDR:0xADDR...        function entries; each time one is entered a new segment begins
 *   edges=1                       count steps between blocks, and run the branch predictor
 *   icache=SIZE:WAYS:LINE:rr|lru  simulate the instruction cache over all code
 *   dcache=SIZE:WAYS:LINE:rr|lru  simulate the data cache over the regions
 *   region=NAME:0xLOW:0xHIGH      a data region (up to four), HIGH excluded; addresses outside of
 *                                 every region are taken to answer at once, and are not counted */
#include "block.h"
#include "cache.h"
#include "qemu_plugin.h"
#include "step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <signal.h>
#include <sys/prctl.h>
#endif

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_API;

enum { MAX_MARKS = 4096, MAX_BLOCK_BYTES = 8192 };

struct region {
    char name[16];
    uint32_t low, size;
};

static FILE *trace;
static uint32_t marks[MAX_MARKS];
static unsigned mark_count;
static uint32_t segment_mark; /* the entry at which the running segment began; 0: the reset */
static struct stepper stepper;
static bool with_dcache;
static struct cache dcache;
static struct region regions[MAX_REGIONS];
static unsigned region_count;

static void count_only(unsigned vcpu, void *user) {
    (void)vcpu;
    ((struct block *)user)->count[EXECUTED]++;
}

static void count_all(unsigned vcpu, void *user) {
    (void)vcpu;
    step_into(&stepper, user);
}

static void enter_mark(unsigned vcpu, void *user) {
    (void)vcpu;
    blocks_write_segment(trace, segment_mark, region_count);
    segment_mark = ((struct block *)user)->address;
}

static uint64_t *region_counts(struct block *block, unsigned region) {
    return &block->count[BLOCK_COUNTERS + region * REGION_COUNTERS];
}

static void look_up(struct block *block, uint32_t address, bool store) {
    unsigned r = 0;
    while (r < region_count && address - regions[r].low >= regions[r].size)
        r++;
    if (r == region_count)
        return;
    uint64_t *count = region_counts(block, r);
    struct cache_access result = cache_touch(&dcache, address >> dcache.line_shift, store, (uint8_t)r);
    count[ACCESSES]++;
    count[store ? STORE_MISSES : LOAD_MISSES] += result.miss;
    if (result.evicted_dirty)
        region_counts(block, result.evicted_owner)[WRITEBACKS]++;
}

static inline void access_line(struct block *block, uint32_t address, bool store) {
    int owner = cache_owner(&dcache, address >> dcache.line_shift, store);
    if (owner >= 0)
        region_counts(block, (unsigned)owner)[ACCESSES]++;
    else
        look_up(block, address, store);
}

/* Also counts accesses that are not aligned to their size; LDRD and VLDR.64, which ask for word
 * alignment only, have no other kind. */
static inline void access_any(struct block *block, uint32_t address, bool store, qemu_plugin_meminfo_t info) {
    access_line(block, address, store);
    if (!(address & 3))
        return;
    uint32_t last = address + (UINT32_C(1) << qemu_plugin_mem_size_shift(info)) - 1;
    if (!(address & (last - address)))
        return;
    block->count[UNALIGNED] += !store;
    if ((address ^ last) >> dcache.line_shift)
        access_line(block, last, store);
}

static void load(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *user) {
    (void)vcpu;
    access_any(user, (uint32_t)address, false, info);
}

static void store(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *user) {
    (void)vcpu;
    access_any(user, (uint32_t)address, true, info);
}

/* Is an instruction that accesses memory a load? Told from its code: asking QEMU at each access takes
 * time, and QEMU 7.2 calls the wrong callbacks if loads and stores are registered apart. In 32-bit
 * encodings and most others a bit says it (Armv7-M Architecture Reference Manual, A5.2.4 and A5.3). */
static bool is_load(const uint8_t *code) {
    uint32_t first = code[0] | code[1] << 8;
    if (first >= 0xe800) /* 32 bits; where they lie across its pages, QEMU hands out no more than these 16 */
        return first >> 4 & 1;
    if (first >> 12 == 5)
        return (first >> 9 & 7) >= 3;
    return first >> 11 & 1;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    uint8_t code[MAX_BLOCK_BYTES];
    uint32_t size = 0, address = (uint32_t)qemu_plugin_tb_vaddr(tb);
    size_t instructions = qemu_plugin_tb_n_insns(tb);
    (void)id;
    for (size_t i = 0; i < instructions; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        size_t bytes = qemu_plugin_insn_size(instruction);
        if (size + bytes > sizeof code)
            abort();
#if QEMU_PLUGIN_API >= 3
        qemu_plugin_insn_data(instruction, code + size, bytes);
#else
        memcpy(code + size, qemu_plugin_insn_data(instruction), bytes);
#endif
        size += (uint32_t)bytes;
    }
    struct block *block = block_find(address, (uint32_t)instructions, code, size);
    if (!block)
        abort();
    for (unsigned i = 0; i < mark_count; i++)
        if (marks[i] == address) { /* before the block is counted: it belongs to the new segment */
            qemu_plugin_register_vcpu_tb_exec_cb(tb, enter_mark, QEMU_PLUGIN_CB_NO_REGS, block);
            break;
        }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, stepper.edges || stepper.fetch ? count_all : count_only,
                                         QEMU_PLUGIN_CB_NO_REGS, block);
    for (size_t i = 0, at = 0; with_dcache && i < instructions; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        size_t bytes = qemu_plugin_insn_size(instruction);
        qemu_plugin_register_vcpu_mem_cb(instruction, is_load(code + at) ? load : store,
                                         QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, block);
        at += bytes;
    }
}

static void finish(qemu_plugin_id_t id, void *user) {
    (void)id, (void)user;
    blocks_write_segment(trace, segment_mark, region_count);
    fputs("end\n", trace);
    fclose(trace);
}

static bool parse_marks(const char *text) {
    while (*text) {
        char *rest;
        unsigned long mark = strtoul(text, &rest, 16);
        if (rest == text || (*rest && *rest != ':') || mark_count == MAX_MARKS)
            return false;
        marks[mark_count++] = (uint32_t)mark & ~UINT32_C(1);
        text = *rest ? rest + 1 : rest;
    }
    return true;
}

static bool parse_region(const char *text) {
    struct region *region = &regions[region_count];
    unsigned high;
    if (region_count == MAX_REGIONS)
        return false;
    if (sscanf(text, "%15[a-z0-9_]:%x:%x", region->name, &region->low, &high) != 3 || region->low >= high)
        return false;
    region->size = high - region->low;
    region_count++;
    return true;
}

static bool parse_argument(const char *argument, const char **out) {
    const char *value = strchr(argument, '=');
    if (!value++)
        return false;
    size_t name = (size_t)(value - argument);
    if (!strncmp(argument, "out=", name))
        *out = value;
    else if (!strncmp(argument, "marks=", name))
        return parse_marks(value);
    else if (!strncmp(argument, "edges=", name))
        stepper.edges = strcmp(value, "0") != 0;
    else if (!strncmp(argument, "icache=", name))
        return stepper.fetch = cache_parse(&stepper.icache, value);
    else if (!strncmp(argument, "dcache=", name))
        return with_dcache = cache_parse(&dcache, value);
    else if (!strncmp(argument, "region=", name))
        return parse_region(value);
    else
        return false;
    return true;
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    const char *out = NULL;
    (void)info;
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a harness that was killed must not leave an emulator spinning */
#endif
    for (int i = 0; i < argc; i++)
        if (!parse_argument(argv[i], &out)) {
            fprintf(stderr, "tinyhil recorder: cannot make sense of the argument '%s'\n", argv[i]);
            return 1;
        }
    if (!out || !(trace = fopen(out, "w"))) {
        fprintf(stderr, "tinyhil recorder: cannot write the trace '%s'\n", out ? out : "(no out= given)");
        return 1;
    }
    fputs("tinyhil-trace 1\n", trace);
    for (int i = 0; i < argc; i++)
        if (strncmp(argv[i], "out=", 4) && strncmp(argv[i], "marks=", 6))
            fprintf(trace, "with %s\n", argv[i]);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, finish, NULL);
    return 0;
}
