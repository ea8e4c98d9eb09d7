/* Which heads run: the gating of docs/policies.md. Pure. */
#ifndef GATING_H
#define GATING_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

#define GATE_MASS_SHIFT 4u /* Low bits of a mass that are not averaged. */

/* What OPEN said. `active` or `mass` above 0 turns gating on. */
struct gating {
    uint32_t active, mass, probe;
};

/* What is known of a region's heads. Bit h of a mask is head h. Averages are four times their value. */
struct gate {
    uint32_t off;   /* Heads that do not run in the next step. */
    uint32_t known; /* Heads that were observed before. */
    uint32_t active[HEADS], mass[HEADS];
    uint8_t rest[HEADS]; /* Steps that a head stays off. */
};

/* Number of OPEN's word that is out of range, 0 if none. Without a log of heads there is no gating. */
uint32_t gating_check(const struct gating *gating);

static inline bool gating_on(const struct gating *gating)
{
    return HEAD_LOG && (gating->active | gating->mass) != 0;
}

/* No head was observed. */
void gate_reset(struct gate *gate);

/* A step is over: heads that were off come closer to running again. Comes before gate_observe of the same step. */
void gate_rest(struct gate *gate);

/* A head ran in a step: its active count and its mass, saturated to 32 bits. */
void gate_observe(const struct gating *gating, struct gate *gate, uint32_t head, uint32_t active, uint32_t mass);

#endif
