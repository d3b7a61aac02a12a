#include "th_twin.h"

int8_t th_post_twin(struct th_post post, int32_t x, const int32_t *constants)
{
    int32_t shift = post.shift < 0 ? constants[2] : post.shift;
    int32_t y;
    if (post.proved) {
        y = (int32_t)((int64_t)x * constants[0] >> 32) + constants[1];
    } else {
        int64_t doubled = (int64_t)x * ((int64_t)1 << 32) + (int64_t)x * constants[0];
        int32_t high = (int32_t)((doubled + ((int64_t)1 << 31)) >> 32);
        y = high + (high >> 31) + constants[1];
    }
    y >>= shift;
    y = y < post.low ? post.low : y;
    return (int8_t)(y > post.high ? post.high : y);
}

void th_gemm_twin(const struct th_gemm *g, const uint32_t *blocks, const int32_t *stream, int8_t *out,
                  const uint32_t *blocks_end, const int32_t *stream_end)
{
    uint32_t constants = g->post.shift < 0 ? 3 : 2;
    while (stream != stream_end) {
        const int32_t *bias = stream, *weights = bias + g->channels, *after = weights + g->pairs;
        int32_t offset0 = g->post.proved ? *after++ : 0;
        int8_t *pixel = out;
        for (const uint32_t *block = blocks; block != blocks_end; block += g->pairs * g->pixels) {
            for (uint32_t p = 0; p < g->pixels; p++, pixel += g->pixel_stride) {
                uint32_t x0 = (uint32_t)bias[0], x1 = g->channels == 2 ? (uint32_t)bias[1] : 0;
                for (uint32_t k = 0; k < g->pairs; k++) {
                    uint32_t act = block[k * g->pixels + p], w = (uint32_t)weights[k];
                    x0 = th_smlad_twin(act, g->channels == 2 ? th_sxtb16_twin(w) : w, x0);
                    x1 = th_smlad_twin(act, w, x1);
                }
                x1 -= x0;
                if (g->post.proved) {
                    x0 = (x0 << 8) + (uint32_t)offset0;
                } else {
                    x1 = (uint32_t)((int32_t)x1 >> 8);
                }
                pixel[0] = th_post_twin(g->post, (int32_t)x0, after);
                if (g->channels == 2) {
                    pixel[g->channel_stride] = th_post_twin(g->post, (int32_t)x1, after + constants);
                }
            }
        }
        stream = after + constants * g->channels;
        out += g->channels * g->channel_stride;
    }
}
