/* Four-bit weights: two words of 16-bit lanes from one word of nibbles. */
#ifndef NN_INT4_H
#define NN_INT4_H

#include <stdint.h>

/* A lane holds 256 * w1 + w0; the nibbles come as w0, w1 of the low lane, then of the high lane. */
static inline int32_t nn_int4_lanes(uint32_t nibbles)
{
    const int32_t low = ((int32_t)(nibbles << 24) >> 28) * 256 + ((int32_t)(nibbles << 28) >> 28);
    const int32_t high = ((int32_t)(nibbles << 16) >> 28) * 256 + ((int32_t)(nibbles << 20) >> 28);
    return (int32_t)(((uint32_t)low & 0xFFFFu) | (uint32_t)high << 16);
}

/* One pair of channels: `head` words as they are, `words` words of lanes, `tail` words as they are.
 * Returns where the next pair begins. */
static inline const int32_t *nn_int4_unpack(const int32_t *packed, int32_t *stream, int32_t head,
                                            int32_t words, int32_t tail)
{
    for (int32_t i = 0; i < head; i++) {
        *stream++ = *packed++;
    }
    for (int32_t i = 0; i < words; i += 2) {
        const uint32_t nibbles = (uint32_t)*packed++;
        *stream++ = nn_int4_lanes(nibbles);
        if (i + 1 < words) {
            *stream++ = nn_int4_lanes(nibbles >> 16);
        }
    }
    for (int32_t i = 0; i < tail; i++) {
        *stream++ = *packed++;
    }
    return packed;
}

#endif
