#include "sequences.h"

uint32_t sequences_place(const struct sequences *sequences, uint32_t slots)
{
    uint32_t free_from = 0;
    for (uint32_t i = 0; i < sequences->count; i++) {
        const struct sequence *next = &sequences->all[sequences->order[i]];
        if (next->first - free_from >= slots)
            return free_from;
        free_from = next->first + next->slots;
    }
    return SLOTS - free_from >= slots ? free_from : NO_PLACE;
}

void sequences_insert(struct sequences *sequences, uint32_t number)
{
    struct sequence *fresh = &sequences->all[number];
    uint32_t i = sequences->count;
    for (; i > 0 && sequences->all[sequences->order[i - 1]].first > fresh->first; i--)
        sequences->order[i] = sequences->order[i - 1];
    sequences->order[i] = (uint8_t)number;
    sequences->count++;
    fresh->open = true;
}

void sequences_remove(struct sequences *sequences, uint32_t number)
{
    uint32_t i = 0;
    while (sequences->order[i] != number)
        i++;
    sequences->count--;
    for (; i < sequences->count; i++)
        sequences->order[i] = sequences->order[i + 1];
    sequences->all[number].open = false;
}

static void add_run(uint32_t run, uint32_t *total, uint32_t *longest)
{
    *total += run;
    if (run > *longest)
        *longest = run;
}

void sequences_free(const struct sequences *sequences, uint32_t *total, uint32_t *longest)
{
    uint32_t free_from = 0;
    *total = 0;
    *longest = 0;
    for (uint32_t i = 0; i < sequences->count; i++) {
        const struct sequence *next = &sequences->all[sequences->order[i]];
        add_run(next->first - free_from, total, longest);
        free_from = next->first + next->slots;
    }
    add_run(SLOTS - free_from, total, longest);
}

bool sequences_sound(const struct sequences *sequences)
{
    uint32_t open = 0, end = 0;
    if (sequences->count > SEQUENCES)
        return false;
    for (uint32_t i = 0; i < sequences->count; i++) {
        uint32_t number = sequences->order[i];
        if (number >= SEQUENCES)
            return false;
        const struct sequence *next = &sequences->all[number];
        if (!next->open || next->layers == 0 || next->layers > LAYERS || next->policy.kind >= POLICY_COUNT)
            return false;
        if (next->first < end || next->first > SLOTS || next->slots > SLOTS - next->first)
            return false;
        end = next->first + next->slots;
        open++;
    }
    for (uint32_t number = 0; number < SEQUENCES; number++)
        open -= sequences->all[number].open;
    return open == 0;
}
