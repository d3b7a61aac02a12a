/* Pixels to planes: what a depthwise layer does with its input rows first. */
#ifndef NN_PLANES_H
#define NN_PLANES_H

#include <stdint.h>
#include <string.h>

static inline uint32_t nn_load4(const int8_t *p)
{
    uint32_t word;
    memcpy(&word, p, 4);
    return word;
}

static inline void nn_store4(int8_t *p, uint32_t word)
{
    memcpy(p, &word, 4);
}

/* One row of `width` pixels of `channels` bytes: channel c goes to to + c * plane, pixel by pixel.
 * Squares of 4 pixels x 4 channels are transposed in registers, four words in and four words out. */
static inline void nn_sort_row(const int8_t *from, int8_t *to, int32_t width, int32_t channels, int32_t plane)
{
    const uint32_t even = UINT32_C(0x00FF00FF);
    for (int32_t c = 0; c + 4 <= channels; c += 4) {
        const int8_t *in = from + c;
        int8_t *out0 = to + c * plane;
        int8_t *out1 = out0 + plane;
        int8_t *out2 = out1 + plane;
        int8_t *out3 = out2 + plane;
        int32_t i = 0;
        for (; i + 4 <= width; i += 4) {
            const uint32_t p = nn_load4(in);
            const uint32_t q = nn_load4(in + channels);
            const uint32_t r = nn_load4(in + 2 * channels);
            const uint32_t s = nn_load4(in + 3 * channels);
            const uint32_t pq02 = (p & even) | (q & even) << 8; /* p0 q0 p2 q2 */
            const uint32_t rs02 = (r & even) | (s & even) << 8;
            const uint32_t pq13 = (p >> 8 & even) | (q & ~even); /* p1 q1 p3 q3 */
            const uint32_t rs13 = (r >> 8 & even) | (s & ~even);
            nn_store4(out0 + i, (pq02 & 0xFFFFu) | rs02 << 16);
            nn_store4(out1 + i, (pq13 & 0xFFFFu) | rs13 << 16);
            nn_store4(out2 + i, pq02 >> 16 | (rs02 & 0xFFFF0000u));
            nn_store4(out3 + i, pq13 >> 16 | (rs13 & 0xFFFF0000u));
            in += 4 * channels;
        }
        for (; i < width; i++) {
            out0[i] = in[0];
            out1[i] = in[1];
            out2[i] = in[2];
            out3[i] = in[3];
            in += channels;
        }
    }
    for (int32_t rest = channels & 3; rest > 0; rest--) {
        const int8_t *in = from + channels - rest;
        int8_t *const out = to + (channels - rest) * plane;
        for (int32_t i = 0; i < width; i++) {
            out[i] = *in;
            in += channels;
        }
    }
}

#endif
