/* The seam between the runtime and any engine: what a generated network tells about itself.
 * An engine's sources define exactly one `const struct th_network th_network`; others in the same
 * firmware hang on it in a list. */
#ifndef TINYHIL_NETWORK_H
#define TINYHIL_NETWORK_H

#include <stdint.h>

struct th_port {
    void *data;    /* where the tensor lies when the network is about to run, or has run */
    uint32_t size; /* bytes */
};

struct th_network {
    uint8_t *arena;      /* working memory, painted before the first run; may be NULL; one for all networks */
    uint32_t arena_size; /* bytes */
    const struct th_port *inputs;
    const struct th_port *outputs;
    uint16_t input_count;
    uint16_t output_count;
    uint16_t layer_count;
    int (*init)(void); /* once after boot; 0 is success; may be NULL */
    int (*run)(void);  /* one inference; 0 is success */
    const struct th_network *next; /* another network of this firmware; NULL: no more */
};

extern const struct th_network th_network;

/* Called by generated code right before layer `index` runs. On silicon it stores the cycle counter
 * in a RAM ring; on emulators layers are told apart by function entry addresses, and it is nothing. */
#ifdef TINYHIL_LAYER_MARKS
void th_layer_mark(uint32_t index);
#define TH_LAYER(index) th_layer_mark(index)
#else
#define TH_LAYER(index) ((void)0)
#endif

#endif
