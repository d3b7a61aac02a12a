/* Pixels to planes in plain C: the last channels of a row, and the twin of sort.py. */
#include "th_asm.h"

void th_sort_rest(const int8_t *from, int8_t *to, uint32_t width, uint32_t channels, uint32_t plane,
                  uint32_t count)
{
    for (uint32_t c = 0; c < count; c++) {
        const int8_t *in = from + c;
        int8_t *const out = to + c * plane;
        for (uint32_t i = 0; i < width; i++, in += channels) {
            out[i] = *in;
        }
    }
}
