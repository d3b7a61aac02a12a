/* Weights of four and two bits: words of 16-bit lanes from packed words. A weight is stored with half its
 * range added; each byte of a packed word holds one weight of every lane word that it packs, the first
 * word's lowest. */
#ifndef NN_LOW_BITS_H
#define NN_LOW_BITS_H

#include <stdint.h>

/* Two lanes of 256 * w1 + w0: what was added to the weights is taken off both lanes at once. The top bit
 * of each lane keeps the lower from borrowing of the upper. */
static inline int32_t nn_lanes(uint32_t packed, int32_t bits)
{
    const uint32_t mask = 0x01010101u * ((1u << bits) - 1u), half = 0x01010101u << (bits - 1);
    return (int32_t)((((packed & mask) | 0x80008000u) - half) ^ 0x80008000u);
}

/* One pair of channels: `head` words as they are, `words` words of lanes, `tail` words as they are.
 * `bits` is a constant, so that everything folds. Returns where the next pair begins. */
static inline const int32_t *nn_unpack(const int32_t *packed, int32_t *stream, int32_t head, int32_t words,
                                       int32_t tail, int32_t bits)
{
    for (int32_t i = 0; i < head; i++) {
        *stream++ = *packed++;
    }
    for (; words > 0; words -= 8 / bits) {
        const uint32_t fields = (uint32_t)*packed++;
        for (int32_t i = 0; i < 8 / bits && i < words; i++) {
            *stream++ = nn_lanes(fields >> (bits * i), bits);
        }
    }
    for (int32_t i = 0; i < tail; i++) {
        *stream++ = *packed++;
    }
    return packed;
}

/* The same where the lanes are 256 * w, from the lowest bits of their upper bytes. */
static inline int32_t nn_high_lanes(uint32_t fields, int32_t bits)
{
    const uint32_t mask = 0x01000100u * ((1u << bits) - 1u), half = 0x01000100u << (bits - 1);
    return (int32_t)((((fields & mask) | 0x80008000u) - half) ^ 0x80008000u);
}

#endif
