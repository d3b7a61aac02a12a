#include "nn_generic.h"

#include "nn_math.h"

static int8_t finish(const struct nn_generic *g, int32_t sum, int32_t channel)
{
    return nn_clamp(nn_requantize(sum, g->multiplier[channel], g->shift[channel]) + g->out_zero, g->low, g->high);
}

void nn_generic_conv(const struct nn_generic *g, const int8_t *x, int8_t *y)
{
    for (int32_t oy = 0; oy < g->out_height; oy++) {
        for (int32_t ox = 0; ox < g->out_width; ox++) {
            const int8_t *weight = g->weights;
            for (int32_t oc = 0; oc < g->out_channels; oc++) {
                int32_t sum = g->bias[oc];
                for (int32_t ky = 0; ky < g->kernel_height; ky++) {
                    const int32_t iy = oy * g->stride_y + ky * g->dilation_y - g->pad_top;
                    for (int32_t kx = 0; kx < g->kernel_width; kx++) {
                        const int32_t ix = ox * g->stride_x + kx * g->dilation_x - g->pad_left;
                        if (iy < 0 || iy >= g->in_height || ix < 0 || ix >= g->in_width) {
                            weight += g->in_channels;
                            continue;
                        }
                        const int8_t *in = x + (iy * g->in_width + ix) * g->in_channels;
                        for (int32_t ic = 0; ic < g->in_channels; ic++) {
                            sum += (in[ic] - g->in_zero) * *weight++;
                        }
                    }
                }
                *y++ = finish(g, sum, oc);
            }
        }
    }
}

void nn_generic_depthwise(const struct nn_generic *g, const int8_t *x, int8_t *y)
{
    for (int32_t oy = 0; oy < g->out_height; oy++) {
        for (int32_t ox = 0; ox < g->out_width; ox++) {
            for (int32_t c = 0; c < g->out_channels; c++) {
                int32_t sum = g->bias[c];
                for (int32_t ky = 0; ky < g->kernel_height; ky++) {
                    const int32_t iy = oy * g->stride_y + ky * g->dilation_y - g->pad_top;
                    for (int32_t kx = 0; kx < g->kernel_width; kx++) {
                        const int32_t ix = ox * g->stride_x + kx * g->dilation_x - g->pad_left;
                        if (iy < 0 || iy >= g->in_height || ix < 0 || ix >= g->in_width) {
                            continue;
                        }
                        const int8_t in = x[(iy * g->in_width + ix) * g->in_channels + c / g->depth_multiplier];
                        const int8_t weight = g->weights[(ky * g->kernel_width + kx) * g->out_channels + c];
                        sum += (in - g->in_zero) * weight;
                    }
                }
                *y++ = finish(g, sum, c);
            }
        }
    }
}
