/* hand_made: which layer runs on which part of the arena. */
#include "network.h"

#include <stddef.h>

#include "layers.h"

#ifdef TINYHIL_LAYER_MARKS
#include "tinyhil_network.h" /* measured on silicon: the runtime stamps each layer's start */
#else
#define TH_LAYER(index) ((void)0)
#endif

void *network_input(uint8_t *arena, int index)
{
    switch (index) {
    case 0:
        return arena + NETWORK_INPUT_0_OFFSET;
    default:
        return NULL;
    }
}

const void *network_output(const uint8_t *arena, int index)
{
    switch (index) {
    case 0:
        return arena + NETWORK_OUTPUT_0_OFFSET;
    default:
        return NULL;
    }
}

int network_run(uint8_t *arena)
{
    int8_t *const a = (int8_t *)arena;

    TH_LAYER(0); /* Pad -> 5x5x2 */
    layer_00_pad(a + 0, a + 32);
    TH_LAYER(1); /* Conv2D 3x3 s2 -> 2x2x3 */
    layer_01_conv2d(a + 32, a + 0);
    TH_LAYER(2); /* Mean -> 3 */
    layer_02_mean(a + 0, a + 12);
    return 0;
}
