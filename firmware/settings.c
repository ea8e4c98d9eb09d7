#include "settings.h"

#include "mailbox.h"
#include "state.h"

/* The value, in two's complement, needs no more than `bits` bits. */
static bool fits_signed(uint32_t value, uint32_t bits)
{
    uint32_t half = 1u << (bits - 1);
    return value + half < half << 1 || bits == 32;
}

static bool fits(uint32_t value, uint32_t bits)
{
    return bits == 32 || value >> bits == 0;
}

/* The word of SET_HEAD that is out of range, 0 if none. Mantissas of ALPHA are 0 or normalised. */
static uint32_t bad_setting(uint32_t mode)
{
    uint32_t alpha = command_word(7), mantissa = alpha & 0xFFFFu;
    if (!fits_signed(command_word(2), SCORE_BITS))
        return 2;
    if (mode > MODE_HYBRID)
        return 3;
    if (!fits(command_word(4), KAPPA_BITS))
        return 4;
    if (!fits(command_word(5), COUNT_BITS))
        return 5;
    if (!fits(alpha, 24) || (mantissa != 0 && mantissa < 0x8000u))
        return 7;
    return fits(command_word(8), 24) ? 0 : 8;
}

uint32_t set_head(void)
{
    uint32_t head = command_word(1), mode = command_word(3), layer = layer_of(state.work.head), bad;
    if (layer >= LAYERS)
        return refuse(STATUS_BAD_LAYER, 0);
    if (head >= HEADS)
        return refuse(STATUS_BAD_HEAD, 1);
    bad = bad_setting(mode);
    if (bad != 0)
        return refuse(STATUS_BAD_VALUE, bad);
    if (mode != MODE_RELU && !SOFTMAX)
        return refuse(STATUS_UNSUPPORTED, 3);
    unit(HEAD_TABLE_THETA(layer, head)) = command_word(2);
    unit(HEAD_TABLE_MODE(layer, head)) = mode;
    unit(HEAD_TABLE_KAPPA(layer, head)) = command_word(4);
    unit(HEAD_TABLE_MIN_ACTIVE(layer, head)) = command_word(5);
    unit(HEAD_TABLE_MIN_MASS(layer, head)) = command_word(6);
    unit(HEAD_TABLE_ALPHA(layer, head)) = command_word(7);
    unit(HEAD_TABLE_SINK(layer, head)) = command_word(8);
    return answer(0);
}

#if GAINS
static uint32_t write_gains(uint32_t head, uint32_t element, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!fits_signed(command_word(2 + i), 16) && !fits(command_word(2 + i), 16))
            return refuse(STATUS_BAD_VALUE, 2 + i);
    for (uint32_t i = 0; i < count; i++)
        unit(GAIN(layer_of(state.work.head), head, element + i)) = command_word(2 + i) & 0xFFFFu;
    return answer(0);
}
#endif

uint32_t set_gains(uint32_t words)
{
    if (words < 3)
        return refuse(STATUS_BAD_LENGTH, 0);
    uint32_t head = command_word(1) & 255u, element = command_word(1) >> 8, count = words - 2;
    if (layer_of(state.work.head) >= LAYERS)
        return refuse(STATUS_BAD_LAYER, 0);
    if (head >= HEADS)
        return refuse(STATUS_BAD_HEAD, 1);
    if (element >= HEAD_DIM || count > HEAD_DIM - element)
        return refuse(STATUS_BAD_VALUE, 1);
#if GAINS
    return write_gains(head, element, count);
#else
    return refuse(STATUS_UNSUPPORTED, 0);
#endif
}

uint32_t set_layer(void)
{
    uint32_t mask = command_word(1), output = command_word(2), head_dim = command_word(3);
    uint32_t normaliser = output & 7u;
    if (layer_of(state.work.head) >= LAYERS)
        return refuse(STATUS_BAD_LAYER, 0);
    if (mask & ~ALL_HEADS)
        return refuse(STATUS_BAD_VALUE, 1);
    if (output > 15u || normaliser >= NORMALISER_COUNT)
        return refuse(STATUS_BAD_VALUE, 2);
    if (!(NORMALISERS >> normaliser & 1u))
        return refuse(STATUS_UNSUPPORTED, 2);
    if (head_dim == 0 || head_dim > HEAD_DIM || (head_dim & (LANES - 1)) != 0)
        return refuse(STATUS_BAD_VALUE, 3);
    struct layer *layer = &state.layers[layer_of(state.work.head)];
    layer->mask = mask;
    layer->control = normaliser << UNIT_PLACE(JOB_CONTROL, NORMALISER);
    if (output & 8u)
        layer->control |= UNIT_MASK(JOB_CONTROL, EMIT_CONTEXT);
    layer->head_dim = head_dim;
    return answer(0);
}

uint32_t set_timeout(void)
{
    uint32_t bits = command_word(1);
    if (bits > 31)
        return refuse(STATUS_BAD_VALUE, 1);
    state.patience = bits;
    scheduler(GATE_TIMEOUT) = bits;
    return answer(0);
}

/* A 64-bit counter of the core; its high half may change while it is read. */
#define READ_CORE_COUNTER(name, low, high)                      \
    do {                                                        \
        uint32_t before_;                                       \
        do {                                                    \
            __asm__ volatile("csrr %0, " name "h" : "=r"(before_)); \
            __asm__ volatile("csrr %0, " name : "=r"(low));     \
            __asm__ volatile("csrr %0, " name "h" : "=r"(high)); \
        } while (before_ != (high));                            \
    } while (0)

uint32_t tell_counters(void)
{
    uint32_t clear = command_word(1), low, high, word = 1;
    if (clear > 1)
        return refuse(STATUS_BAD_VALUE, 1);
#if COUNTERS
    const volatile uint32_t *counter = &unit(FIRST_COUNTER);
    for (uint32_t i = 0; i < 2 * COUNTERS; i++)
        reply_word(word++, counter[i]);
#endif
    READ_CORE_COUNTER("mcycle", low, high);
    reply_word(word++, low);
    reply_word(word++, high);
    READ_CORE_COUNTER("minstret", low, high);
    reply_word(word++, low);
    reply_word(word++, high);
#if COUNTERS
    if (clear)
        unit(COUNTERS_CLEAR) = 1;
#endif
    return answer(word - 1);
}
