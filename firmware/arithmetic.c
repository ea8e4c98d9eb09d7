/* What the compiler calls where the core has no multiplier. */
#ifndef __riscv_mul

#include "speed.h"

uint32_t __mulsi3(uint32_t a, uint32_t b);

uint32_t __mulsi3(uint32_t a, uint32_t b)
{
    uint32_t sum = 0;
    for (; b != 0; b >>= 1, a <<= 1)
        sum += a & -as_number(b & 1);
    return sum;
}

#endif
