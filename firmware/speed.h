/* What helps the compiler to fast code for the core. */
#ifndef SPEED_H
#define SPEED_H

#include <stdint.h>

/* A branch that is not taken is the faster one. */
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* The value, of which the compiler knows nothing: else it makes long shifts of a field's extraction and of comparisons
   with powers of two, and the core takes a cycle for 8 places, and one for each further place. */
static inline uint32_t as_number(uint32_t value)
{
    __asm__("" : "+r"(value));
    return value;
}

#endif
