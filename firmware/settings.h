/* Commands that write or read the unit's tables and counters; nothing is in flight. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stdint.h>

/* What a command came to: so many words of the reply behind word 0 are written, or a status, and the word that was
   wrong. */
static inline uint32_t answer(uint32_t words)
{
    return words;
}

static inline uint32_t refuse(uint32_t status, uint32_t detail)
{
    return status << 8 | detail << 16;
}

uint32_t set_head(void);
uint32_t set_gains(uint32_t words);
uint32_t set_layer(void);
uint32_t set_timeout(void);
uint32_t tell_counters(void);

#endif
