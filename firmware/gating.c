#include "gating.h"

uint32_t gating_check(const struct gating *gating)
{
    if (!HEAD_LOG && gating->active != 0)
        return 8;
    if (!HEAD_LOG && gating->mass != 0)
        return 9;
    if (gating->active > 65535u)
        return 8;
    if (gating->mass >> 31)
        return 9;
    return gating->probe > 255u || (gating->probe == 0 && gating_on(gating)) ? 10 : 0;
}

void gate_reset(struct gate *gate)
{
    gate->off = 0;
    gate->known = 0;
    for (uint32_t head = 0; head < HEADS; head++)
        gate->rest[head] = 0;
}

void gate_rest(struct gate *gate)
{
    for (uint32_t head = 0, off = gate->off; off; head++, off >>= 1)
        if ((off & 1) && --gate->rest[head] == 0)
            gate->off &= ~(1u << head);
}

static uint32_t average(bool known, uint32_t before, uint32_t value)
{
    return known ? before + value - (before >> 2) : value << 2;
}

void gate_observe(const struct gating *gating, struct gate *gate, uint32_t head, uint32_t active, uint32_t mass)
{
    uint32_t bit = 1u << head;
    bool known = (gate->known & bit) != 0;
    gate->known |= bit;
    gate->active[head] = average(known, gate->active[head], active);
    gate->mass[head] = average(known, gate->mass[head], mass >> GATE_MASS_SHIFT);
    bool low = gate->active[head] < gating->active << 2 || gate->mass[head] < (gating->mass >> GATE_MASS_SHIFT) << 2;
    if (low && gating->probe > 1) {
        gate->rest[head] = (uint8_t)(gating->probe - 1);
        gate->off |= bit;
    }
}
