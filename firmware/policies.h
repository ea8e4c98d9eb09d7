/* Which row leaves: the KV policies of docs/policies.md. Pure: no registers, nothing kept but the region given. */
#ifndef POLICIES_H
#define POLICIES_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "messages.h"

#define SEGMENTS 32u        /* BUZZ merges its segments when there would be more. */
#define FLAGS 256u          /* DMS remembers the flags of so many tokens. */
#define MAX_DMS_RECENT 254u /* So that the flag that is asked for is still there. */

/* What OPEN said, in the words of golden.policies.PolicySettings. */
struct policy {
    uint32_t kind, normalised, budget, sinks, recent, stride, share;
};

/* BUZZ: rows that left the recent window and are kept, by segment of `size` positions. `start` is the first position of
   the newest, number `current`. */
struct segments {
    uint32_t size, start, current;
    union {
        uint16_t counts[SEGMENTS];
        uint32_t words[SEGMENTS / 2];
    };
};

/* What is known of the rows that a layer of a sequence keeps. */
struct region {
    uint32_t n, position, random;
    union {
        struct segments segments;
        uint32_t flags[FLAGS / 32];
    };
};

/* What a step does. `low`, `recent` and `metric` are for the victim search, and hold only with `evict`. */
struct plan {
    uint32_t refuse, evict, silent; /* 0 or 1. */
    uint32_t low, recent, metric;
};

/* Number of OPEN's word that is out of range or contradicts another, 0 if none. `kind` is below POLICY_COUNT. */
uint32_t policy_check(const struct policy *policy, uint32_t seed);

/* A region without rows. */
void region_reset(const struct policy *policy, struct region *region, uint32_t seed, uint32_t layer);

/* Plans the next step and counts it into the region; a refused one leaves the region alone. `flag`: the token is to
   leave early. Positions must stay below 2**31. */
void plan_step(const struct policy *policy, struct region *region, bool flag, struct plan *plan);

void segments_copy(struct segments *to, const struct segments *from);

/* Copies all that plan_step cannot do again. A flag of DMS is written again by the step that takes a failed one's
   place. */
static inline void region_copy(const struct policy *policy, struct region *to, const struct region *from)
{
    to->n = from->n;
    to->position = from->position;
    to->random = from->random;
    if (policy->kind == POLICY_BUZZ)
        segments_copy(&to->segments, &from->segments);
}

#endif
