/* Plain C twins of the generated assembler: the same packed streams, the same bytes read and written. */
#ifndef TH_TWIN_H
#define TH_TWIN_H

#include "th_asm.h"

void th_gemm_twin(const struct th_gemm *g, const uint32_t *blocks, const int32_t *stream, int8_t *out,
                  const uint32_t *blocks_end, const int32_t *stream_end, uint32_t stride, uint32_t block_bytes);

/* The byte of accumulator `x`: 256 times the sum plus an offset for `proved`, the sum for `rounded`. */
int8_t th_post_twin(struct th_post post, int32_t x, const int32_t *constants);

void th_depthwise_twin(const struct th_depthwise *d, const int8_t *plane, const int32_t *stream, int8_t *out);

void th_pair_rows_twin(const struct th_pair_rows *p, const int8_t *x, int8_t *rows, const int8_t *end,
                       uint32_t zero);

void th_pair_tile_twin(const struct th_pair_tile *t, const int8_t *rows, const int32_t *stream, int8_t *out,
                       const int8_t *end);

void th_dense_twin(const struct th_dense *d, const void *inputs, const int32_t *stream, int8_t *out,
                   uint32_t turns, int32_t own_products);

int32_t th_own_products_twin(const void *inputs, const void *end, uint32_t rest, int direct);

/* Sum of the products of the signed 16-bit halves, added to `sum` modulo 2^32. */
static inline uint32_t th_smlad_twin(uint32_t a, uint32_t b, uint32_t sum)
{
    int32_t low = (int16_t)(a & 0xFFFFu) * (int16_t)(b & 0xFFFFu);
    int32_t high = (int16_t)(a >> 16) * (int16_t)(b >> 16);
    return sum + (uint32_t)low + (uint32_t)high;
}

/* Both low bytes of the halves, sign-extended to 16 bits. */
static inline uint32_t th_sxtb16_twin(uint32_t x)
{
    return th_pair((int8_t)(x & 0xFFu), (int8_t)(x >> 16 & 0xFFu));
}

#endif
