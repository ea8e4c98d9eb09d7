/* Open sequences and the slots that they own. Pure. */
#ifndef SEQUENCES_H
#define SEQUENCES_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "gating.h"
#include "policies.h"

/* An open sequence owns slots first ... first + slots - 1: `layers` regions of the policy's budget. */
struct sequence {
    struct policy policy;
    struct gating gating;
    uint32_t seed, layers, first, slots;
    uint32_t open, damaged;
};

/* `order`: numbers of the `count` open sequences, by their first slot. */
struct sequences {
    struct sequence all[SEQUENCES];
    uint8_t order[SEQUENCES];
    uint32_t count;
};

/* First slot of the first run of `slots` free ones, or NO_PLACE. */
#define NO_PLACE 0xFFFFFFFFu
uint32_t sequences_place(const struct sequences *sequences, uint32_t slots);

/* Opens sequence `number`, whose `first` and `slots` are set: a place that sequences_place gave. */
void sequences_insert(struct sequences *sequences, uint32_t number);

/* Closes sequence `number`, which is open. */
void sequences_remove(struct sequences *sequences, uint32_t number);

/* Slots that are free, and the longest run of them. */
void sequences_free(const struct sequences *sequences, uint32_t *total, uint32_t *longest);

/* The table can be believed: numbers in range, extents in order, apart from each other and in the store. */
bool sequences_sound(const struct sequences *sequences);

#endif
