/* A network that an ahead-of-time compiler made, behind tinyhil's runtime: what a TVM-style C export
 * needs to be measured. Copy this file, set the sizes, name the two structs and the function as yours are.
 *
 *     [engines.external.my_network]
 *     sources = ["wrapper.c", "aot/*.c"]
 */
#include "tinyhil_network.h"

/* What the compiler exported: one pointer per input and per output, and a function that returns 0. */
struct network_inputs {
    const void *input;
};
struct network_outputs {
    void *output;
};
extern int network_run(struct network_inputs *inputs, struct network_outputs *outputs);

#ifndef INPUT_SIZE
#define INPUT_SIZE 640 /* bytes */
#endif
#ifndef OUTPUT_SIZE
#define OUTPUT_SIZE 10
#endif

/* Input and output lie in `.arena`, which the runtime paints before a run and reads afterwards, so that
 * the touched bytes are known. A workspace of the compiler's belongs there too. What the exported code
 * keeps in static variables is counted as static RAM. */
__attribute__((section(".arena"), aligned(16))) static struct {
    uint8_t input[INPUT_SIZE];
    uint8_t output[OUTPUT_SIZE];
} arena;

static const struct th_port inputs[] = {{arena.input, INPUT_SIZE}};
static const struct th_port outputs[] = {{arena.output, OUTPUT_SIZE}};

static int run(void)
{
    struct network_inputs in = {arena.input};
    struct network_outputs out = {arena.output};

    return network_run(&in, &out);
}

const struct th_network th_network = {
    .arena = (uint8_t *)&arena,
    .arena_size = sizeof arena,
    .inputs = inputs,
    .outputs = outputs,
    .input_count = 1,
    .output_count = 1,
    .layer_count = 0, /* list functions in `layers` and call TH_LAYER(i) at their entries to tell them apart */
    .run = run,
};
