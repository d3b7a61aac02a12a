/* The called interface in plain C, and strict: a wrong dimension, a scratch buffer that is missing or too
 * small, an output over its input is an error. Every scratch buffer is overwritten as a whole, so that one
 * that lies on living data spoils the output. CONTRACT_EXTRA is scratch beyond the documented sizes. */
#include "fixed_point.h"

#include <arm_nnfunctions.h>
#include <string.h>

#ifndef CONTRACT_EXTRA
#define CONTRACT_EXTRA 0
#endif

#define CHECK(condition)                   \
    do {                                   \
        if (!(condition))                  \
            return ARM_CMSIS_NN_ARG_ERROR; \
    } while (0)

/* -- checks */

static int apart(const int8_t *input, int64_t input_size, const int8_t *output, int64_t output_size)
{
    const uintptr_t in = (uintptr_t)input, out = (uintptr_t)output;

    return in + (uintptr_t)input_size <= out || out + (uintptr_t)output_size <= in;
}

static int64_t size_of(const cmsis_nn_dims *d)
{
    return (int64_t)d->n * d->h * d->w * d->c;
}

static int use_scratch(const cmsis_nn_context *ctx, int32_t needed)
{
    if (needed == 0)
        return 1;
    if (ctx->buf == NULL || ctx->size < needed)
        return 0;
    memset(ctx->buf, 0x5A, (size_t)needed);
    return 1;
}

/* -- convolutions: `step` is 0 for a depthwise one, where output channel c reads channel c / multiplier */

struct window {
    cmsis_nn_tile stride, padding, dilation;
    int32_t input_offset, output_offset, multiplier;
    cmsis_nn_activation clamp;
};

static int32_t weighted_sum(const struct window *p, const cmsis_nn_dims *in, const int8_t *x, const int8_t *w,
                            const cmsis_nn_dims *kernel, int32_t row, int32_t column, int32_t channel,
                            int32_t channels, int depthwise)
{
    int32_t sum = 0;

    for (int32_t ky = 0; ky < kernel->h; ky++) {
        for (int32_t kx = 0; kx < kernel->w; kx++) {
            const int32_t iy = row * p->stride.h - p->padding.h + ky * p->dilation.h;
            const int32_t ix = column * p->stride.w - p->padding.w + kx * p->dilation.w;
            if (iy < 0 || iy >= in->h || ix < 0 || ix >= in->w)
                continue;
            const int8_t *pixel = x + (iy * in->w + ix) * in->c;
            if (depthwise) {
                const int8_t weight = w[(ky * kernel->w + kx) * channels + channel];
                sum += (pixel[channel / p->multiplier] + p->input_offset) * weight;
                continue;
            }
            for (int32_t i = 0; i < in->c; i++) {
                const int8_t weight = w[((channel * kernel->h + ky) * kernel->w + kx) * in->c + i];
                sum += (pixel[i] + p->input_offset) * weight;
            }
        }
    }
    return sum;
}

static void convolve(const struct window *p, const int32_t *multiplier, const int32_t *shift,
                     const cmsis_nn_dims *in, const int8_t *x, const cmsis_nn_dims *kernel, const int8_t *w,
                     const int32_t *bias, const cmsis_nn_dims *out, int8_t *y, int depthwise)
{
    for (int32_t row = 0; row < out->h; row++) {
        for (int32_t column = 0; column < out->w; column++) {
            for (int32_t c = 0; c < out->c; c++) {
                int32_t sum = weighted_sum(p, in, x, w, kernel, row, column, c, out->c, depthwise);
                sum += bias != NULL ? bias[c] : 0;
                sum = requantize(sum, multiplier[c], shift[c]) + p->output_offset;
                *y++ = clamp(sum, p->clamp.min, p->clamp.max);
            }
        }
    }
}

int32_t arm_convolve_wrapper_s8_get_buffer_size(const cmsis_nn_conv_params *params,
                                                const cmsis_nn_dims *input_dims,
                                                const cmsis_nn_dims *filter_dims,
                                                const cmsis_nn_dims *output_dims)
{
    const int32_t taps = filter_dims->h * filter_dims->w * input_dims->c;

    (void)output_dims;
    if (filter_dims->h == 1 && filter_dims->w == 1 && params->padding.h == 0 && params->padding.w == 0 &&
        params->dilation.h == 1 && params->dilation.w == 1)
        return 0;
    return 4 * ((taps + 3) / 4 * 4) + CONTRACT_EXTRA;
}

arm_cmsis_nn_status arm_convolve_wrapper_s8(
    const cmsis_nn_context *ctx, const cmsis_nn_conv_params *params,
    const cmsis_nn_per_channel_quant_params *quant, const cmsis_nn_dims *input_dims, const int8_t *input,
    const cmsis_nn_dims *filter_dims, const int8_t *filter, const cmsis_nn_dims *bias_dims,
    const int32_t *bias, const cmsis_nn_dims *output_dims, int8_t *output)
{
    const struct window p = {params->stride,        params->padding,       params->dilation,
                             params->input_offset,  params->output_offset, 1,
                             params->activation};

    CHECK(input_dims->n == 1 && output_dims->n == 1 && filter_dims->c == input_dims->c);
    CHECK(filter_dims->n == output_dims->c && bias_dims->c == output_dims->c);
    CHECK(apart(input, size_of(input_dims), output, size_of(output_dims)));
    CHECK(use_scratch(ctx, arm_convolve_wrapper_s8_get_buffer_size(params, input_dims, filter_dims,
                                                                   output_dims)));
    convolve(&p, quant->multiplier, quant->shift, input_dims, input, filter_dims, filter, bias, output_dims,
             output, 0);
    return ARM_CMSIS_NN_SUCCESS;
}

int32_t arm_depthwise_conv_wrapper_s8_get_buffer_size(const cmsis_nn_dw_conv_params *params,
                                                      const cmsis_nn_dims *input_dims,
                                                      const cmsis_nn_dims *filter_dims,
                                                      const cmsis_nn_dims *output_dims)
{
    if (input_dims->c != output_dims->c || params->dilation.h != 1 || params->dilation.w != 1)
        return 0;
    if (filter_dims->h == 3 && filter_dims->w == 3 && params->padding.h <= 1 && params->padding.w <= 1)
        return 0;
    return 2 * input_dims->c * filter_dims->h * filter_dims->w + CONTRACT_EXTRA;
}

arm_cmsis_nn_status arm_depthwise_conv_wrapper_s8(
    const cmsis_nn_context *ctx, const cmsis_nn_dw_conv_params *params,
    const cmsis_nn_per_channel_quant_params *quant, const cmsis_nn_dims *input_dims, const int8_t *input,
    const cmsis_nn_dims *filter_dims, const int8_t *filter, const cmsis_nn_dims *bias_dims,
    const int32_t *bias, const cmsis_nn_dims *output_dims, int8_t *output)
{
    const struct window p = {params->stride,       params->padding,       params->dilation,
                             params->input_offset, params->output_offset, params->ch_mult,
                             params->activation};

    CHECK(input_dims->n == 1 && output_dims->n == 1 && filter_dims->n == 1);
    CHECK(params->ch_mult * input_dims->c == output_dims->c && filter_dims->c == output_dims->c);
    CHECK(bias_dims->c == output_dims->c);
    CHECK(apart(input, size_of(input_dims), output, size_of(output_dims)));
    CHECK(use_scratch(ctx, arm_depthwise_conv_wrapper_s8_get_buffer_size(params, input_dims, filter_dims,
                                                                         output_dims)));
    convolve(&p, quant->multiplier, quant->shift, input_dims, input, filter_dims, filter, bias, output_dims,
             output, 1);
    return ARM_CMSIS_NN_SUCCESS;
}

int32_t arm_fully_connected_s8_get_buffer_size(const cmsis_nn_dims *filter_dims)
{
    (void)filter_dims;
    return 0;
}

arm_cmsis_nn_status arm_fully_connected_wrapper_s8(
    const cmsis_nn_context *ctx, const cmsis_nn_fc_params *params, const cmsis_nn_quant_params *quant,
    const cmsis_nn_dims *input_dims, const int8_t *input, const cmsis_nn_dims *filter_dims,
    const int8_t *filter, const cmsis_nn_dims *bias_dims, const int32_t *bias,
    const cmsis_nn_dims *output_dims, int8_t *output)
{
    const int32_t depth = filter_dims->n;

    (void)ctx;
    CHECK(params->filter_offset == 0 && filter_dims->c == output_dims->c && bias_dims->c == output_dims->c);
    CHECK(input_dims->h * input_dims->w * input_dims->c == depth && input_dims->n == output_dims->n);
    CHECK(apart(input, size_of(input_dims), output, size_of(output_dims)));
    for (int32_t row = 0; row < input_dims->n; row++) {
        for (int32_t c = 0; c < output_dims->c; c++) {
            const int32_t q = quant->is_per_channel ? c : 0;
            int32_t sum = bias != NULL ? bias[c] : 0;
            for (int32_t i = 0; i < depth; i++)
                sum += (input[row * depth + i] + params->input_offset) * filter[c * depth + i];
            sum = requantize(sum, quant->multiplier[q], quant->shift[q]) + params->output_offset;
            *output++ = clamp(sum, params->activation.min, params->activation.max);
        }
    }
    return ARM_CMSIS_NN_SUCCESS;
}

/* -- element by element */

arm_cmsis_nn_status arm_elementwise_add_s8(const int8_t *a, const int8_t *b, int32_t a_offset,
                                           int32_t a_mult, int32_t a_shift, int32_t b_offset,
                                           int32_t b_mult, int32_t b_shift, int32_t left_shift,
                                           int8_t *output, int32_t out_offset, int32_t out_mult,
                                           int32_t out_shift, int32_t out_min, int32_t out_max, int32_t count)
{
    CHECK(apart(a, count, output, count) && apart(b, count, output, count));
    for (int32_t i = 0; i < count; i++) {
        const int32_t x = requantize((a[i] + a_offset) * (1 << left_shift), a_mult, a_shift);
        const int32_t y = requantize((b[i] + b_offset) * (1 << left_shift), b_mult, b_shift);
        output[i] = clamp(requantize(x + y, out_mult, out_shift) + out_offset, out_min, out_max);
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_elementwise_mul_s8(const int8_t *a, const int8_t *b, int32_t a_offset,
                                           int32_t b_offset, int8_t *output, int32_t out_offset,
                                           int32_t out_mult, int32_t out_shift, int32_t out_min,
                                           int32_t out_max, int32_t count)
{
    CHECK(apart(a, count, output, count) && apart(b, count, output, count));
    for (int32_t i = 0; i < count; i++) {
        const int32_t product = (a[i] + a_offset) * (b[i] + b_offset);
        output[i] = clamp(requantize(product, out_mult, out_shift) + out_offset, out_min, out_max);
    }
    return ARM_CMSIS_NN_SUCCESS;
}

/* -- pools */

int32_t arm_avgpool_s8_get_buffer_size(int output_width, int channels)
{
    (void)output_width;
    return 4 * channels + CONTRACT_EXTRA;
}

static arm_cmsis_nn_status pool(const cmsis_nn_pool_params *params, const cmsis_nn_dims *in,
                                const int8_t *input, const cmsis_nn_dims *kernel, const cmsis_nn_dims *out,
                                int8_t *output, int average)
{
    CHECK(in->n == 1 && out->n == 1 && in->c == out->c);
    CHECK(apart(input, size_of(in), output, size_of(out)));
    for (int32_t i = 0; i < out->h * out->w * out->c; i++) {
        const int32_t top = i / out->c / out->w * params->stride.h - params->padding.h;
        const int32_t left = i / out->c % out->w * params->stride.w - params->padding.w;
        int32_t sum = 0, count = 0, max = INT8_MIN;
        for (int32_t y = top; y < top + kernel->h; y++) {
            for (int32_t x = left; x < left + kernel->w; x++) {
                if (y < 0 || y >= in->h || x < 0 || x >= in->w)
                    continue;
                const int32_t value = input[(y * in->w + x) * in->c + i % out->c];
                sum += value;
                count++;
                max = value > max ? value : max;
            }
        }
        CHECK(count > 0);
        const int32_t mean = (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
        output[i] = clamp(average ? mean : max, params->activation.min, params->activation.max);
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_avgpool_s8(const cmsis_nn_context *ctx, const cmsis_nn_pool_params *params,
                                   const cmsis_nn_dims *input_dims, const int8_t *input,
                                   const cmsis_nn_dims *filter_dims, const cmsis_nn_dims *output_dims,
                                   int8_t *output)
{
    CHECK(use_scratch(ctx, arm_avgpool_s8_get_buffer_size(output_dims->w, input_dims->c)));
    return pool(params, input_dims, input, filter_dims, output_dims, output, 1);
}

arm_cmsis_nn_status arm_max_pool_s8(const cmsis_nn_context *ctx, const cmsis_nn_pool_params *params,
                                    const cmsis_nn_dims *input_dims, const int8_t *input,
                                    const cmsis_nn_dims *filter_dims, const cmsis_nn_dims *output_dims,
                                    int8_t *output)
{
    (void)ctx;
    return pool(params, input_dims, input, filter_dims, output_dims, output, 0);
}

/* -- softmax */

void arm_softmax_s8(const int8_t *input, int32_t rows, int32_t row_size, int32_t mult, int32_t shift,
                    int32_t diff_min, int8_t *output)
{
    for (int32_t row = 0; row < rows; row++, input += row_size, output += row_size) {
        int32_t max = input[0], sum = 0, headroom = 0;
        for (int32_t i = 0; i < row_size; i++)
            max = input[i] > max ? input[i] : max;
        for (int32_t i = 0; i < row_size; i++) {
            const int32_t diff = input[i] - max;
            if (diff >= diff_min)
                sum += divide_by_power(exp_on_negative(high_mul(diff * (1 << shift), mult)), 12);
        }
        while (((uint32_t)sum << headroom) < UINT32_C(0x80000000))
            headroom++;
        const int32_t scale = one_over_one_plus((int32_t)(((uint32_t)sum << headroom) - UINT32_C(0x80000000)));
        const int32_t bits = 12 - headroom + 23;
        for (int32_t i = 0; i < row_size; i++) {
            const int32_t diff = input[i] - max;
            int32_t value = 0;
            if (diff >= diff_min && bits < 32)
                value = divide_by_power(high_mul(scale, exp_on_negative(high_mul(diff * (1 << shift), mult))),
                                        bits);
            output[i] = clamp(value - 128, -128, 127);
        }
    }
}

/* -- moves */

arm_cmsis_nn_status arm_pad_s8(const int8_t *input, int8_t *output, int8_t value,
                               const cmsis_nn_dims *input_dims, const cmsis_nn_dims *before,
                               const cmsis_nn_dims *after)
{
    const cmsis_nn_dims *in = input_dims;
    const cmsis_nn_dims out = {before->n + in->n + after->n, before->h + in->h + after->h,
                               before->w + in->w + after->w, before->c + in->c + after->c};

    CHECK(apart(input, size_of(in), output, size_of(&out)));
    memset(output, value, (size_t)size_of(&out));
    for (int32_t n = 0; n < in->n; n++)
        for (int32_t y = 0; y < in->h; y++)
            for (int32_t x = 0; x < in->w; x++, input += in->c) {
                const int32_t pixel = ((n + before->n) * out.h + y + before->h) * out.w + x + before->w;
                memcpy(output + pixel * out.c + before->c, input, (size_t)in->c);
            }
    return ARM_CMSIS_NN_SUCCESS;
}

void arm_concatenation_s8_y(const int8_t *input, uint16_t input_x, uint16_t input_y, uint16_t input_z,
                            uint16_t input_w, int8_t *output, uint16_t output_y, uint32_t offset_y)
{
    for (int32_t i = 0; i < input_z * input_w; i++)
        memcpy(output + ((uint32_t)i * output_y + offset_y) * input_x, input + i * input_x * input_y,
               (size_t)(input_x * input_y));
}
