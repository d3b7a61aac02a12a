/* Expansion of any number of pixels in plain C: the last pixels of a layer, and the twin of expand.py. */
#include "th_asm.h"

/* Bytes 0 and 2 of a word, and bytes 1 and 3, sign-extended to 16 bits. */
#ifdef __ARM_FEATURE_DSP
static inline uint32_t even_bytes(uint32_t word)
{
    uint32_t lanes;
    __asm__("sxtb16 %0, %1" : "=r"(lanes) : "r"(word));
    return lanes;
}

static inline uint32_t odd_bytes(uint32_t word)
{
    uint32_t lanes;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(lanes) : "r"(word));
    return lanes;
}
#else
static inline uint32_t even_bytes(uint32_t word)
{
    return th_pair((int8_t)(word & 0xFFu), (int8_t)(word >> 16 & 0xFFu));
}

static inline uint32_t odd_bytes(uint32_t word)
{
    return even_bytes(word >> 8);
}
#endif

void th_expand(uint32_t *blocks, const int8_t *const *windows, uint32_t pixels, uint32_t rows, uint32_t run,
               int32_t row_stride)
{
    for (uint32_t row = 0; row < rows; row++) {
        int32_t at = (int32_t)row * row_stride;
        uint32_t left = run;
        for (; left >= 4; left -= 4, at += 4, blocks += 2 * pixels) {
            for (uint32_t p = 0; p < pixels; p++) {
                uint32_t word = th_load32(windows[p] + at);
                blocks[p] = even_bytes(word);
                blocks[pixels + p] = odd_bytes(word);
            }
        }
        for (uint32_t i = 0; i < 2 && i < left; i++, blocks += pixels) {
            for (uint32_t p = 0; p < pixels; p++) {
                const int8_t *x = windows[p] + at + i;
                blocks[p] = th_pair(x[0], i + 2 < left ? x[2] : 0);
            }
        }
    }
}

void th_widen(uint32_t *pairs, const int8_t *x, uint32_t count)
{
    const int8_t *end = x + count;
    for (; end - x >= 4; x += 4, pairs += 2) {
        uint32_t word = th_load32(x);
        pairs[0] = even_bytes(word);
        pairs[1] = odd_bytes(word);
    }
    if (x != end) {
        pairs[0] = th_pair(x[0], end - x > 2 ? x[2] : 0);
        pairs[1] = th_pair(end - x > 1 ? x[1] : 0, 0);
    }
}
