/* Expansion of any number of pixels in plain C: the last pixels of a layer, and the twin of expand.py. */
#include "th_asm.h"

void th_expand(uint32_t *blocks, const int8_t *const *windows, uint32_t pixels, uint32_t rows, uint32_t run,
               int32_t row_stride)
{
    for (uint32_t row = 0; row < rows; row++) {
        for (uint32_t k = 0; k < run; k += 4) {
            uint32_t left = run - k;
            for (uint32_t p = 0; p < pixels; p++) {
                const int8_t *x = windows[p] + (int32_t)row * row_stride + k;
                *blocks++ = th_pair(x[0], left > 2 ? x[2] : 0);
            }
            for (uint32_t p = 0; left > 1 && p < pixels; p++) {
                const int8_t *x = windows[p] + (int32_t)row * row_stride + k;
                *blocks++ = th_pair(x[1], left > 3 ? x[3] : 0);
            }
        }
    }
}
