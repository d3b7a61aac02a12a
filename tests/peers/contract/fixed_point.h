/* The arithmetic that the contract computes with, as TFLM defines it. */
#ifndef CONTRACT_FIXED_POINT_H
#define CONTRACT_FIXED_POINT_H

#include <stdint.h>

static inline int32_t high_mul(int32_t a, int32_t b)
{
    const int64_t product = (int64_t)a * b;
    const int64_t nudged = product + (product >= 0 ? 1 << 30 : 1 - (1 << 30));

    return a == INT32_MIN && b == INT32_MIN ? INT32_MAX : (int32_t)(nudged / (INT64_C(1) << 31));
}

static inline int32_t divide_by_power(int32_t x, int32_t n)
{
    const int64_t half = n > 0 ? INT64_C(1) << (n - 1) : 0;
    const int64_t rounded = x >= 0 ? x + half : x - half;

    return (int32_t)(rounded / (INT64_C(1) << n));
}

static inline int32_t requantize(int32_t x, int32_t multiplier, int32_t shift)
{
    const int32_t left = shift > 0 ? shift : 0;
    const int32_t right = shift < 0 ? -shift : 0;

    return divide_by_power(high_mul((int32_t)((uint32_t)x << left), multiplier), right);
}

static inline int8_t clamp(int32_t x, int32_t low, int32_t high)
{
    return (int8_t)(x < low ? low : x > high ? high : x);
}

static inline int32_t saturated_left(int32_t x, int32_t n)
{
    const int64_t wide = (int64_t)x * (INT64_C(1) << n);

    return wide > INT32_MAX ? INT32_MAX : wide < INT32_MIN ? INT32_MIN : (int32_t)wide;
}

/* -- softmax: exp in Q5.26 to Q0.31, the sum in Q12.19 */

static inline int32_t exp_on_negative(int32_t a)
{
    static const int32_t power[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    const int32_t quarter = 1 << 24, rest = (a & (quarter - 1)) - quarter;
    const int32_t x = saturated_left(rest, 5) + (1 << 28);
    const int32_t x2 = high_mul(x, x), x3 = high_mul(x2, x);
    const int32_t x4 = divide_by_power(high_mul(x2, x2), 2);
    const int32_t tail = divide_by_power(high_mul(x4 + x3, 715827883) + x2, 1);
    int32_t result = 1895147668 + high_mul(1895147668, x + tail);

    for (int32_t i = 0; i < 7; i++) {
        if ((rest - a) & (quarter << i))
            result = high_mul(result, power[i]);
    }
    return a == 0 ? INT32_MAX : result;
}

static inline int32_t one_over_one_plus(int32_t x)
{
    const int32_t d = (int32_t)(((int64_t)x + INT32_MAX + 1) >> 1);
    int32_t estimate = 1515870810 + high_mul(d, -1010580540);

    for (int32_t i = 0; i < 3; i++)
        estimate += saturated_left(high_mul(estimate, (1 << 29) - high_mul(d, estimate)), 2);
    return saturated_left(estimate, 1);
}

#endif
