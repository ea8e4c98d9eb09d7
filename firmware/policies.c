#include "policies.h"

#define RANDOM_FOR_ZERO 0x9E3779B9u

_Static_assert(METRIC_RATE == METRIC_MASS + 1, "H2O's normalised metric follows the other");
_Static_assert(POLICY_BUZZ == 3 && POLICY_COUNT == 6, "BUZZ and those behind it plan by history");

static bool uses_stride(const struct policy *policy)
{
    return policy->kind == POLICY_BUZZ || policy->kind == POLICY_NACL;
}

static bool bad_stride(const struct policy *policy)
{
    uint32_t stride = policy->stride;
    if (!uses_stride(policy))
        return stride != 0;
    if (policy->kind == POLICY_BUZZ)
        return stride == 0 || stride > 255;
    return stride == 0 || stride > 128 || (stride & (stride - 1)) != 0;
}

uint32_t policy_check(const struct policy *policy, uint32_t seed)
{
    uint32_t kind = policy->kind;
    if (policy->normalised > (kind == POLICY_H2O && RATE))
        return 1;
    if (policy->budget == 0 || policy->budget > SLOTS)
        return 2;
    if (policy->sinks >= policy->budget || policy->sinks >= POSITIONS || (kind == POLICY_REFUSE && policy->sinks != 0))
        return 3;
    if (policy->recent >= policy->budget - policy->sinks || policy->recent >= POSITIONS)
        return 4;
    if ((kind == POLICY_REFUSE || kind == POLICY_STREAMING) && policy->recent != 0)
        return 4;
    if (kind == POLICY_DMS && policy->recent > MAX_DMS_RECENT)
        return 4;
    if (bad_stride(policy))
        return 5;
    if (policy->share > (kind == POLICY_NACL ? 256u : 0u))
        return 6;
    return seed != 0 && kind != POLICY_NACL ? 7 : 0;
}

void region_reset(const struct policy *policy, struct region *region, uint32_t seed, uint32_t layer)
{
    uint32_t *word = (uint32_t *)region;
    for (uint32_t i = 0; i < sizeof *region / sizeof *word; i++)
        word[i] = 0;
    region->random = seed ^ (layer << 24);
    if (region->random == 0)
        region->random = RANDOM_FOR_ZERO;
    if (policy->kind == POLICY_BUZZ) {
        region->segments.size = policy->stride;
        region->segments.start = policy->sinks;
    }
}

void segments_copy(struct segments *to, const struct segments *from)
{
    to->size = from->size;
    to->start = from->start;
    to->current = from->current;
#pragma clang loop unroll_count(4)
    for (uint32_t i = 0; i < SEGMENTS / 2; i++)
        to->words[i] = from->words[i];
}

/* floor(a * b / 2**16) for a below 2**16. */
static uint32_t fraction_of(uint32_t a, uint32_t b)
{
    uint32_t fraction = a * (b & 0xFFFFu) >> 16;
    return b >> 16 ? fraction + a * (b >> 16) : fraction;
}

static uint32_t draw(struct region *region)
{
    uint32_t x = region->random;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    region->random = x;
    return x;
}

static void merge_pairs(struct segments *segments)
{
    for (uint32_t i = 0; i < SEGMENTS / 2; i++)
        segments->counts[i] = (uint16_t)(segments->counts[2 * i] + segments->counts[2 * i + 1]);
    for (uint32_t i = SEGMENTS / 4; i < SEGMENTS / 2; i++)
        segments->words[i] = 0;
    segments->current = SEGMENTS / 2;
    segments->size <<= 1;
}

/* Position `p` has left the recent window; it follows the one that left before. */
static void count_row(struct segments *segments, uint32_t p)
{
    if (p - segments->start == segments->size) {
        segments->start = p;
        if (++segments->current == SEGMENTS)
            merge_pairs(segments);
    }
    segments->counts[segments->current]++;
}

/* The victim is in the fullest segment, the oldest of equals. */
static void plan_buzz(const struct policy *policy, struct segments *segments, uint32_t t, struct plan *plan)
{
    uint16_t *fullest = segments->counts, *last = fullest + segments->current;
    uint32_t first = policy->sinks, most = *fullest;
    for (uint16_t *count = fullest; count != last;)
        if (*++count > most) {
            most = *count;
            fullest = count;
        }
    *fullest = (uint16_t)(most - 1);
    first += segments->size * (uint32_t)(fullest - segments->counts);
    uint32_t end = first + segments->size;
    plan->low = first;
    if (t > end && t - end > plan->recent)
        plan->recent = t - end;
    plan->metric = METRIC_MASS;
}

static void plan_nacl(const struct policy *policy, struct region *region, uint32_t t, struct plan *plan)
{
    uint32_t x = draw(region);
    plan->metric = METRIC_MASS;
    if ((x & 255u) < policy->share) {
        plan->low += fraction_of(x >> 16, t - policy->recent - policy->sinks);
        plan->metric = METRIC_POSITION;
    }
}

/* Notes the flag of token `t`; whether token `p` was flagged. */
static bool note_flag(struct region *region, uint32_t t, bool flag, uint32_t p)
{
    uint32_t *word = &region->flags[(t & (FLAGS - 1)) >> 5], bit = 1u << (t & 31);
    *word = flag ? *word | bit : *word & ~bit;
    return (region->flags[(p & (FLAGS - 1)) >> 5] >> (p & 31)) & 1;
}

/* The policies that look at more than the numbers. `full`: no slot is free. */
static void plan_by_history(const struct policy *policy, struct region *region, bool flag, bool full, struct plan *plan)
{
    uint32_t kind = policy->kind, t = region->position, p = t - policy->recent - 1;
    bool left = t > policy->recent && p >= policy->sinks; /* `p` has just left the recent window. */
    if (kind == POLICY_BUZZ) {
        if (left)
            count_row(&region->segments, p);
        if (full)
            plan_buzz(policy, &region->segments, t, plan);
    } else if (kind == POLICY_NACL) {
        plan->silent = (t & (policy->stride - 1)) != policy->stride - 1;
        if (full)
            plan_nacl(policy, region, t, plan);
    } else if (note_flag(region, t, flag, p) && left) {
        plan->evict = true;
        plan->low = p;
    }
}

void plan_step(const struct policy *policy, struct region *region, bool flag, struct plan *plan)
{
    bool full = region->n == policy->budget;
    plan->refuse = false;
    plan->silent = false;
    plan->evict = full;
    plan->low = policy->sinks;
    plan->recent = policy->recent;
    plan->metric = METRIC_POSITION;
    if (policy->kind >= POLICY_BUZZ) {
        plan_by_history(policy, region, flag, full, plan);
    } else if (full) {
        if (policy->kind == POLICY_H2O) {
            plan->metric = METRIC_MASS + policy->normalised;
        } else if (policy->kind == POLICY_REFUSE) {
            plan->refuse = true;
            return;
        }
    }
    if (!plan->evict)
        region->n++;
    region->position++;
}
