/* Channels as padded planes, for depthwise convolutions. */
#include "th_asm.h"

/* Four pixels of four channels, one word each, to four words of one channel each. */
static inline void transpose(const int8_t *x, uint32_t channels, int8_t *to, uint32_t plane_bytes)
{
    const uint32_t even = 0x00FF00FFu;
    uint32_t a = th_load32(x), b = th_load32(x + channels);
    uint32_t c = th_load32(x + 2 * channels), d = th_load32(x + 3 * channels);
    uint32_t ab02 = (a & even) | (b & even) << 8, ab13 = (a >> 8 & even) | (b & ~even);
    uint32_t cd02 = (c & even) | (d & even) << 8, cd13 = (c >> 8 & even) | (d & ~even);
    th_store32(to, (ab02 & 0xFFFFu) | cd02 << 16);
    th_store32(to + plane_bytes, (ab13 & 0xFFFFu) | cd13 << 16);
    th_store32(to + 2 * plane_bytes, ab02 >> 16 | (cd02 & 0xFFFF0000u));
    th_store32(to + 3 * plane_bytes, ab13 >> 16 | (cd13 & 0xFFFF0000u));
}

void th_planes_from_pixels(const struct th_planes *p, const int8_t *x, uint32_t count, int8_t *planes)
{
    uint32_t channels = p->channels, plane_bytes = p->plane_bytes;
    planes += p->first;
    for (uint32_t row = 0; row < p->height; row++, planes += p->row_bytes) {
        int8_t *to = planes, *end = planes + p->width;
        if (count == 4) {
            for (; end - to >= 4; to += 4, x += 4 * channels) {
                transpose(x, channels, to, plane_bytes);
            }
        }
        for (; to != end; to++, x += channels) {
            for (uint32_t i = 0; i < count; i++) {
                to[i * plane_bytes] = x[i];
            }
        }
    }
}

void th_planes_from_plane(const struct th_planes *p, const int8_t *x, int8_t *plane)
{
    plane += p->first;
    for (uint32_t row = 0; row < p->height; row++, plane += p->row_bytes) {
        int8_t *to = plane, *end = plane + p->width;
        for (; end - to >= 8; to += 8, x += 8) {
            uint32_t a = th_load32(x), b = th_load32(x + 4);
            th_store32(to, a);
            th_store32(to + 4, b);
        }
        if (end - to >= 4) {
            th_store32(to, th_load32(x));
            to += 4, x += 4;
        }
        while (to != end) {
            *to++ = *x++;
        }
    }
}
