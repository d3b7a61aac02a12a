/* hand_made: its layers, in the order they run. */
#include "layers.h"

#include <string.h>
#include "nn_math.h"

/* Pad: 1x4x4x2 -> 1x5x5x2. */
void layer_00_pad(const int8_t *x0, int8_t *y)
{
    for (int32_t i0 = 0; i0 < 5; i0++) {
        for (int32_t i1 = 0; i1 < 5; i1++) {
            const int inside = i0 < 4 && i1 < 4;
            if (inside) {
                memcpy(y, x0 + (i0 * 8 + i1 * 2), 2);
            } else {
                memset(y, -3, 2);
            }
            y += 2;
        }
    }
}

static const int8_t layer_01_conv2d_weights[54] = {
    -7, 3, 65, 115, -119, -91, 82, 114, -64, -48, 94, -20, -58, 84, -62, -23, 37, 13, -106, -120,
    93, 65, 86, 10, 81, -43, -12, 74, -96, -50, -96, -12, 122, -93, -30, -25, 103, -76, 1, -61,
    -122, 64, -112, -56, 0, -4, -98, 123, 64, 118, -104, 57, -53, 11
};
static const int32_t layer_01_conv2d_bias[3] = {
    167, 650, -984
};
static const int32_t layer_01_conv2d_multiplier[3] = {
    1828555250, 1323510572, 2141743871
};
static const int8_t layer_01_conv2d_shift[3] = {
    -6, -7, -6
};

/* Convolution 3x3, stride 2x2: 5x5x2 -> 2x2x3, 216 MACs. The input's zero point is folded into the bias. */
void layer_01_conv2d(const int8_t *x0, int8_t *y)
{
    for (int32_t oy = 0; oy < 2; oy++) {
        for (int32_t ox = 0; ox < 2; ox++) {
            const int8_t *weight = layer_01_conv2d_weights;
            for (int32_t oc = 0; oc < 3; oc++) {
                int32_t sum = layer_01_conv2d_bias[oc];
                for (int32_t ky = 0; ky < 3; ky++) {
                    const int32_t iy = oy * 2 + ky;
                    for (int32_t kx = 0; kx < 3; kx++) {
                        const int32_t ix = ox * 2 + kx;
                        const int8_t *in = x0 + (iy * 5 + ix) * 2;
                        for (int32_t ic = 0; ic < 2; ic++) {
                            sum += in[ic] * *weight++;
                        }
                    }
                }
                sum = nn_requantize(sum, layer_01_conv2d_multiplier[oc], layer_01_conv2d_shift[oc]);
                *y++ = nn_clamp(sum - 128, -128, 13);
            }
        }
    }
}

/* Mean of 4 values: 1x2x2x3 -> 1x3. */
void layer_02_mean(const int8_t *x0, int8_t *y)
{
    for (int32_t i0 = 0; i0 < 3; i0++) {
        int32_t sum = 512;
        for (int32_t j0 = 0; j0 < 4; j0++) {
            sum += x0[i0 + j0 * 3];
        }
        sum = nn_requantize(sum, 1138875187, -1);
        *y++ = nn_clamp(sum + 2, -128, 127);
    }
}
