/* Convolutions that know nothing in advance: shapes, strides and constants are read at run time, as an
 * interpreter's kernels read them. What code generation is compared with. */
#ifndef NN_GENERIC_H
#define NN_GENERIC_H

#include <stdint.h>

struct nn_generic {
    const int8_t *weights;
    const int32_t *bias;
    const int32_t *multiplier;
    const int8_t *shift;
    int32_t in_height, in_width, in_channels;
    int32_t out_height, out_width, out_channels;
    int32_t kernel_height, kernel_width;
    int32_t stride_y, stride_x;
    int32_t dilation_y, dilation_x;
    int32_t pad_top, pad_left;
    int32_t in_zero, out_zero, low, high;
    int32_t depth_multiplier; /* of a depthwise convolution */
};

void nn_generic_conv(const struct nn_generic *g, const int8_t *x, int8_t *y);
void nn_generic_depthwise(const struct nn_generic *g, const int8_t *x, int8_t *y);

#endif
