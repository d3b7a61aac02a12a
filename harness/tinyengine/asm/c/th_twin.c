#include "th_twin.h"

int8_t th_post_twin(struct th_post post, int32_t x, const int32_t *constants)
{
    int32_t shift = post.shift < 0 ? constants[2] : post.shift;
    int32_t y;
    if (post.proved) {
        y = (int32_t)((int64_t)x * constants[0] >> 32) + (post.common ? post.addend : constants[1]);
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
                  const uint32_t *blocks_end, const int32_t *stream_end, uint32_t stride, uint32_t block_bytes)
{
    uint32_t constants = (g->post.common ? 1u : 2u) + (g->post.shift < 0);
    uint32_t pixel_stride = g->planar ? 1 : stride, channel_stride = g->planar ? stride : 1;
    uint32_t pairs = block_bytes / (4u * g->pixels);
    while (stream != stream_end) {
        const int32_t *bias = stream, *weights = bias + g->channels, *after = weights + pairs;
        int32_t offset0 = g->post.proved ? *after++ : 0;
        int8_t *pixel = out;
        for (const uint32_t *block = blocks; block != blocks_end; block += pairs * g->pixels) {
            for (uint32_t p = 0; p < g->pixels; p++, pixel += pixel_stride) {
                uint32_t x0 = (uint32_t)bias[0], x1 = g->channels == 2 ? (uint32_t)bias[1] : 0;
                for (uint32_t k = 0; k < pairs; k++) {
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
                    pixel[channel_stride] = th_post_twin(g->post, (int32_t)x1, after + constants);
                }
            }
        }
        stream = after + constants * g->channels;
        out += g->channels * channel_stride;
    }
}

/* The weight of tap (row, t), times 256: its place in the stream is that of depthwise_tile.py. */
static int32_t tap(const struct th_depthwise *d, const int32_t *weights, uint32_t row, uint32_t t)
{
    uint32_t rest = d->kernel_width % 4u, group = t / 4, u = t % 4;
    uint32_t pairs = d->kernel_width / 4u * 2 + (rest == 3), singles = rest == 3 ? 1 : rest;
    uint32_t first = d->resident ? row * pairs : row * (pairs + (singles + 1) / 2), word, half;
    if (group < d->kernel_width / 4u || (rest == 3 && u != 1)) {
        word = first + 2 * group + (u & 1);
        half = u >> 1;
    } else {
        uint32_t place = (rest == 3 ? 0 : u) + (d->resident ? row * singles : 0);
        word = (d->resident ? d->kernel_height * pairs : first + pairs) + place / 2;
        half = place % 2;
    }
    return (int16_t)((uint32_t)weights[word] >> (16 * half) & 0xFFFFu);
}

void th_depthwise_twin(const struct th_depthwise *d, const int8_t *plane, const int32_t *stream, int8_t *out)
{
    uint32_t rest = d->kernel_width % 4u, rows = d->kernel_height;
    uint32_t pairs = d->kernel_width / 4u * 2 + (rest == 3), singles = rest == 3 ? 1 : rest;
    uint32_t count = d->resident ? rows * pairs + (rows * singles + 1) / 2 : rows * (pairs + (singles + 1) / 2);
    const int32_t *weights = d->resident ? stream : stream + 1;
    int32_t bias = d->resident ? stream[count] : stream[0];
    for (uint32_t y = 0; y < d->out_height; y++) {
        for (uint32_t x = 0; x < d->out_width; x++, out += d->pixel_stride) {
            const int8_t *window = plane + y * d->stride_y * d->row_bytes + x * d->stride_x;
            uint32_t sum = (uint32_t)bias;
            for (uint32_t row = 0; row < rows; row++) {
                for (uint32_t t = 0; t < d->kernel_width; t++) {
                    sum += (uint32_t)(window[row * d->row_bytes + t] * tap(d, weights, row, t));
                }
            }
            int32_t signed_sum = (int32_t)sum;
            *out = th_post_twin(d->post, d->post.proved ? signed_sum : signed_sum >> 8, stream + count + 1);
        }
    }
}

/* A pixel of a row of pairs, counted in bytes from its channel's first word. */
static uint32_t pair_place(uint32_t pixel)
{
    return pixel / 4u * 32u + pixel % 4u * 2u;
}

void th_pair_rows_twin(const struct th_pair_rows *p, const int8_t *x, int8_t *rows, const int8_t *end,
                       uint32_t zero)
{
    for (; rows != end; rows += p->row_bytes, x += p->width * p->channels) {
        for (uint32_t i = 0; i < p->pixels; i++) {
            uint32_t pixel = i - p->left; /* wraps in front of the first one */
            for (uint32_t c = 0; c < 4; c++) {
                int16_t value = pixel < p->width ? x[pixel * p->channels + c] : (int8_t)(zero & 0xFFu);
                __builtin_memcpy(rows + 8u * c + pair_place(i), &value, 2);
            }
        }
    }
}

void th_pair_tile_twin(const struct th_pair_tile *t, const int8_t *rows, const int32_t *stream, int8_t *out,
                       const int8_t *end)
{
    for (uint32_t c = 0; c < 4; c++, stream += t->words) {
        int8_t *to = out + c;
        for (const int8_t *row = rows; row != end; row += t->stride_y * t->row_bytes) {
            for (uint32_t x = 0; x < t->out_width; x++, to += t->pixel_stride) {
                uint32_t first = x == 0 ? t->first_outside : 0, width = t->kernel_width;
                uint32_t end_tap = width - (x + 1 == t->out_width ? t->last_outside : 0);
                uint32_t sum = (uint32_t)stream[first ? t->first_bias : end_tap < width ? t->last_bias : t->bias];
                for (uint32_t i = 0; i < t->kernel_height * width; i++) {
                    uint32_t place = t->taps[i], pixel = x * t->stride_x + i % width - t->first_outside;
                    if (i % width < first || i % width >= end_tap) {
                        continue;
                    }
                    uint32_t weight = (uint32_t)stream[place / 2] >> (16 * (place % 2)) & 0xFFFFu;
                    int16_t value;
                    __builtin_memcpy(&value, row + i / width * t->row_bytes + 8u * c + pair_place(pixel), 2);
                    sum += (uint32_t)(value * (int16_t)weight);
                }
                int32_t x256 = (int32_t)sum;
                *to = th_post_twin(t->post, t->post.proved ? x256 : x256 >> 8, stream + t->constants);
            }
        }
    }
}

/* Lane by lane: `a` plus the even bytes of `b`. */
static uint32_t th_sxtab16_twin(uint32_t a, uint32_t b)
{
    uint32_t even = th_sxtb16_twin(b);
    return ((a & 0xFFFF0000u) + (even & 0xFFFF0000u)) | ((a + even) & 0xFFFFu);
}

/* Inputs 0 and 2, and 1 and 3, of four: from bytes or widened before. Returns the next four. */
static const void *dense_inputs(const void *inputs, int direct, uint32_t x[2])
{
    uint32_t word;
    if (!direct) {
        const uint32_t *pairs = inputs;
        x[0] = pairs[0];
        x[1] = pairs[1];
        return pairs + 2;
    }
    word = th_load32(inputs);
    x[0] = th_sxtb16_twin(word);
    x[1] = th_sxtb16_twin(word >> 8);
    return (const int8_t *)inputs + 4;
}

int32_t th_own_products_twin(const void *inputs, const void *end, uint32_t rest, int direct)
{
    uint32_t sum = 0, x[2];
    uint32_t fours = (uint32_t)((const int8_t *)end - (const int8_t *)inputs) / (direct ? 4u : 8u) + rest;
    while (fours--) {
        inputs = dense_inputs(inputs, direct, x);
        sum = th_smlad_twin(x[0], x[1], sum);
    }
    return (int32_t)sum;
}

void th_dense_twin(const struct th_dense *d, const void *inputs, const int32_t *stream, int8_t *out,
                   uint32_t turns, int32_t own_products)
{
    uint32_t fours = (uint32_t)*stream++ / (d->direct ? 4u : 8u) + d->rest;
    uint32_t each = d->post.shift < 0 ? 3 : 2, first = d->post.proved ? 1 : 0;
    const int32_t *constants = stream;
    stream += d->uniform ? first + each : 0;
    while (turns--) {
        const int32_t *weights = stream + d->outputs, *after = weights + fours * d->outputs;
        for (uint32_t c = 0; c < d->outputs; c += 2) {
            int two = c + 1 < d->outputs;
            const int32_t *even = d->uniform ? constants : after, *odd = d->uniform ? even : even + each;
            uint32_t sum0 = (uint32_t)stream[c] - (uint32_t)own_products, sum1 = two ? (uint32_t)stream[c + 1] : 0;
            const void *next = inputs;
            for (uint32_t k = 0; k < fours; k++) {
                const int32_t *w = weights + k * d->outputs + c;
                uint32_t x[2], w0 = (uint32_t)w[0], w1 = two ? (uint32_t)w[1] : w0 >> 8;
                next = dense_inputs(next, d->direct, x);
                sum1 = th_smlad_twin(x[1], w1, th_smlad_twin(x[0], w0, sum1));
                sum0 = th_smlad_twin(th_sxtab16_twin(x[1], w0), th_sxtab16_twin(x[0], w1), sum0);
            }
            if (d->post.proved) {
                sum0 = (sum0 << 8) + (uint32_t)even[0];
                sum1 -= (uint32_t)((int32_t)sum0 >> 8);
            } else {
                sum1 = (uint32_t)((int32_t)(sum1 - sum0) >> 8);
            }
            *out++ = th_post_twin(d->post, (int32_t)sum0, even + first);
            if (two) {
                *out++ = th_post_twin(d->post, (int32_t)sum1, odd + first);
            }
            after += d->uniform ? 0 : first + (two ? 2 : 1) * each;
        }
        stream = after;
    }
}
