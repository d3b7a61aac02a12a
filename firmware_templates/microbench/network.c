/* The micro-benchmark as a "network" whose layers are the loops of loops.S: the harness then times
 * them as it times any layer. The order is that of LOOPS, which the host reads too. */
#include "tinyhil_network.h"

#include <stdint.h>

/* name, iterations: enough to drown the call; the last two read 2048 lines per iteration */
#define LOOPS(X)                                                                                             \
    X(pairs, 4000)                                                                                           \
    X(chain, 4000)                                                                                           \
    X(load_use, 4000)                                                                                        \
    X(narrow_load_use, 4000)                                                                                 \
    X(pointer_chase, 4000)                                                                                   \
    X(load_both_banks, 4000)                                                                                 \
    X(load_one_bank, 4000)                                                                                   \
    X(stores, 4000)                                                                                          \
    X(narrow_stores, 4000)                                                                                   \
    X(mac_chain, 4000)                                                                                       \
    X(mac_and_load, 4000)                                                                                    \
    X(mac_use, 4000)                                                                                         \
    X(load_mac, 4000)                                                                                        \
    X(unpack, 4000)                                                                                          \
    X(unpack_and_mac, 4000)                                                                                  \
    X(shifted_operand, 4000)                                                                                 \
    X(requantise, 4000)                                                                                      \
    X(divide, 4000)                                                                                          \
    X(load_multiple, 4000)                                                                                   \
    X(float_add, 4000)                                                                                       \
    X(float_fused, 4000)                                                                                     \
    X(branch_not_taken, 4000)                                                                                \
    X(branch_random, 4000)                                                                                   \
    X(call_return, 4000)                                                                                     \
    X(flash_lines, 20)                                                                                       \
    X(ram_lines, 20)

static uint32_t buffer[16] __attribute__((aligned(32)));
static int8_t port[4];

#define DECLARE(name, iterations) void mb_##name(uint32_t count, uint32_t *memory);
LOOPS(DECLARE)

enum {
#define NUMBER(name, iterations) LOOP_##name,
    LOOPS(NUMBER) LOOP_COUNT
};

static int run(void) {
    buffer[0] = (uint32_t)(uintptr_t)buffer; /* pointer_chase goes round in circles */
#define CALL(name, iterations)                                                                               \
    TH_LAYER(LOOP_##name);                                                                                   \
    mb_##name(iterations, buffer);
    LOOPS(CALL)
    return 0;
}

static const struct th_port ports[] = {{port, sizeof port}};

const struct th_network th_network = {
    .inputs = ports,
    .outputs = ports,
    .input_count = 1,
    .output_count = 1,
    .layer_count = LOOP_COUNT,
    .run = run,
};
