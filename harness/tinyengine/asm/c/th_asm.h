/* What the generated kernels share: the lane instructions, as instructions or as plain C, and the
 * descriptions by which the plain C twins read the packed streams. */
#ifndef TH_ASM_H
#define TH_ASM_H

#include <stdint.h>

/* Four bytes from any address. */
static inline uint32_t th_load32(const void *p)
{
    uint32_t word;
    __builtin_memcpy(&word, p, 4);
    return word;
}

static inline void th_store32(void *p, uint32_t word)
{
    __builtin_memcpy(p, &word, 4);
}

/* The same word `count` times. */
static inline void th_fill32(void *p, uint32_t count, uint32_t word)
{
    for (uint8_t *to = p; count != 0; count--, to += 4) {
        th_store32(to, word);
    }
}

/* Two 16-bit lanes in a word: the first value in the low half. */
static inline uint32_t th_pair(int32_t first, int32_t second)
{
    return ((uint32_t)first & 0xFFFFu) | ((uint32_t)second << 16);
}

/* How an accumulator becomes a byte: see post.py. `shift` is -1 where the stream brings it; `addend`
 * counts where it is the same for all channels (`common`). */
struct th_post {
    int8_t proved;
    int8_t shift;
    int8_t low;
    int8_t high;
    int8_t common;
    int32_t addend;
};

/* One block of output pixels times one or two channels, the outputs as pixels or as planes: see gemm.py. */
struct th_gemm {
    uint8_t planar;
    uint8_t pixels;
    uint8_t channels;
    struct th_post post;
};

/* A layer's windows for widening code that windows of any size share; distances in bytes. */
struct th_expand_shape {
    uint32_t step;   /* from a window to the next, 0 where a table holds them */
    uint32_t turns;  /* of the loop over a row */
    int32_t rest;    /* from where the code ends in a window to the next one */
    uint32_t rows;
    int32_t between; /* from the end of a row to the next */
};

/* Up to eight outputs at a time of a fully-connected layer: see dense_pass.py. */
struct th_dense {
    uint8_t rest; /* fours of inputs behind the loop's */
    uint8_t outputs;
    uint8_t uniform;
    uint8_t direct;
    struct th_post post;
};

/* One channel of a depthwise convolution: see depthwise_tile.py. */
struct th_depthwise {
    uint8_t kernel_height;
    uint8_t kernel_width;
    uint8_t stride_y;
    uint8_t stride_x;
    uint32_t row_bytes;
    uint32_t out_height;
    uint32_t out_width;
    uint32_t pixel_stride;
    uint8_t resident;
    struct th_post post;
};

/* Rows of pixels as 16-bit pairs, four channels at a time: see pair_rows.py. */
struct th_pair_rows {
    uint32_t width;    /* pixels of the input row */
    uint32_t channels;
    uint32_t left;     /* zero points in front of them */
    uint32_t row_bytes;
    uint32_t pixels;   /* that are written, zero points included */
};

/* Four channels of a depthwise convolution over such rows: see pair_tile.py. */
struct th_pair_tile {
    uint8_t kernel_height;
    uint8_t kernel_width;
    uint8_t stride_y;
    uint8_t stride_x;
    uint32_t row_bytes;
    uint32_t out_width;
    uint32_t pixel_stride;
    uint16_t bias; /* places in the stream, in words */
    uint16_t constants;
    uint16_t first_bias; /* of the first output of a row, and of the last */
    uint16_t last_bias;
    uint16_t words;
    uint8_t first_outside; /* taps that they leave out */
    uint8_t last_outside;
    const uint16_t *taps; /* places of the weights, in half-words */
    struct th_post post;
};

/* Windows of `rows` runs of `run` bytes, `row_stride` bytes apart, as 16-bit pairs: see expand.py. */
void th_expand(uint32_t *blocks, const int8_t *const *windows, uint32_t pixels, uint32_t rows, uint32_t run,
               int32_t row_stride);

/* `count` values as 16-bit pairs, in the same order as th_expand; zeros beside the last of them. */
void th_widen(uint32_t *pairs, const int8_t *x, uint32_t count);

/* `count` channels, `channels` bytes apart in the row's `width` pixels, into planes: see sort.py. */
void th_sort_rest(const int8_t *from, int8_t *to, uint32_t width, uint32_t channels, uint32_t plane,
                  uint32_t count);

#endif
