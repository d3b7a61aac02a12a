/* hand_made: an int8 network as C for this computer.
 *
 * All memory is the caller's: an arena of NETWORK_ARENA_SIZE bytes, 16-byte aligned. Write the inputs
 * where network_input() points, call network_run(), read the outputs where network_output() points.
 * The inputs are overwritten by the run. Several arenas may run at the same time.
 *
 * real value = scale * (int8 value - zero point)
 * input 0: int8 1x4x4x2, scale 0.05, zero point -3
 * output 0: int8 1x3, scale 0.04, zero point 2
 */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NETWORK_ARENA_SIZE 82
#define NETWORK_ARENA_ALIGN 16
#define NETWORK_INPUTS 1
#define NETWORK_OUTPUTS 1
#define NETWORK_LAYERS 3

#define NETWORK_INPUT_0_SIZE 32
#define NETWORK_INPUT_0_OFFSET 0
#define NETWORK_INPUT_0_SCALE 0.0500000007f
#define NETWORK_INPUT_0_ZERO_POINT (-3)

#define NETWORK_OUTPUT_0_SIZE 3
#define NETWORK_OUTPUT_0_OFFSET 12
#define NETWORK_OUTPUT_0_SCALE 0.0399999991f
#define NETWORK_OUTPUT_0_ZERO_POINT (2)

/* Where input or output `index` lies in `arena`; NULL if there is no such port. */
void *network_input(uint8_t *arena, int index);
const void *network_output(const uint8_t *arena, int index);

/* One inference. Returns 0. */
int network_run(uint8_t *arena);

#ifdef __cplusplus
}
#endif

#endif
