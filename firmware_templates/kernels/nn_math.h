/* Integer arithmetic of int8 networks, exactly as TensorFlow Lite for Microcontrollers defines it.
 * A right shift of a negative number is arithmetic here, as on every compiler this code meets. */
#ifndef NN_MATH_H
#define NN_MATH_H

#include <stdint.h>

/* The high half of 2 * x * m, rounded to nearest with ties upwards. m is never INT32_MIN. */
static inline int32_t nn_high_mul(int32_t x, int32_t m)
{
    return (int32_t)(((int64_t)x * m + (1 << 30)) >> 31);
}

/* x / 2^n, rounded to nearest with ties away from zero; n is 0..31. */
static inline int32_t nn_shift_right(int32_t x, int32_t n)
{
    const int32_t mask = (int32_t)((UINT32_C(1) << n) - 1u);
    const int32_t threshold = (int32_t)((uint32_t)mask >> 1) + (x < 0 ? 1 : 0);
    return (x >> n) + ((x & mask) > threshold ? 1 : 0);
}

/* x * m * 2^(shift - 31), rounded twice; shift > 0 is a left shift that wraps. */
static inline int32_t nn_requantize(int32_t x, int32_t m, int32_t shift)
{
    if (shift > 0) {
        return nn_high_mul((int32_t)((uint32_t)x << shift), m);
    }
    return nn_shift_right(nn_high_mul(x, m), -shift);
}

static inline int8_t nn_clamp(int32_t x, int32_t low, int32_t high)
{
    return (int8_t)(x < low ? low : (x > high ? high : x));
}

/* To the nearest int8; one instruction where there is one. */
static inline int32_t nn_saturate8(int32_t x)
{
#ifdef __ARM_FEATURE_SAT
    int32_t y; /* __ssat of GCC 12's arm_acle.h does not compile cleanly under -Wconversion */
    __asm__("ssat %0, #8, %1" : "=r"(y) : "r"(x));
    return y;
#else
    return x < -128 ? -128 : (x > 127 ? 127 : x);
#endif
}

#endif
