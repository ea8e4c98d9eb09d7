#include "commands.h"

#include "mailbox.h"
#include "settings.h"
#include "speed.h"
#include "state.h"
#include "steps.h"

/* Words of each command, 0 where that varies. */
static const uint8_t LENGTHS[OP_COUNT] = {
    [OP_INFO] = 1,     [OP_OPEN] = 11,    [OP_CLOSE] = 1,       [OP_RESET] = 1,    [OP_STEP] = 4,  [OP_SET_HEAD] = 9,
    [OP_SET_GAIN] = 0, [OP_SET_LAYER] = 4, [OP_SET_TIMEOUT] = 2, [OP_COUNTERS] = 2, [OP_SLOTS] = 4, [OP_STATE] = 1,
};

/* Sequences ------------------------------------------------------------------------------------------------------ */

static uint32_t number_of_work(void)
{
    return sequence_of(state.work.head);
}

static struct sequence *sequence_of_work(void)
{
    return &state.sequences.all[number_of_work()];
}

/* Status of a command to an open sequence. */
static uint32_t check_sequence(void)
{
    if (number_of_work() >= SEQUENCES)
        return STATUS_BAD_SEQUENCE;
    return sequence_of_work()->open ? STATUS_OK : STATUS_CLOSED;
}

/* Status of a command to a layer of an open sequence. */
static uint32_t check_place(void)
{
    uint32_t status = check_sequence();
    if (status == STATUS_OK && layer_of(state.work.head) >= sequence_of_work()->layers)
        return STATUS_BAD_LAYER;
    return status;
}

static struct place *place_of_work(void)
{
    return state.found[number_of_work()][layer_of(state.work.head)];
}

static void forget_rows(struct sequence *sequence)
{
    for (uint32_t layer = 0; layer < sequence->layers; layer++) {
        struct place *place = state.found[number_of_work()][layer];
        region_reset(&sequence->policy, &place->region, sequence->seed, layer);
        gate_reset(&place->gate);
    }
    sequence->damaged = false;
}

static uint32_t info(void)
{
    uint32_t open = 0, total, longest;
    for (uint32_t i = 0; i < state.sequences.count; i++)
        open |= 1u << state.sequences.order[i];
    sequences_free(&state.sequences, &total, &longest);
    reply_word(1, open);
    reply_word(2, total);
    reply_word(3, longest);
    reply_word(4, state.restarts);
    return answer(4);
}

/* The words of OPEN, checked, into a sequence that is closed. */
static uint32_t read_settings(struct sequence *sequence)
{
    uint32_t first = command_word(1), bad;
    struct policy *policy = &sequence->policy;
    policy->kind = first & 255u;
    policy->normalised = first >> 16;
    policy->budget = command_word(2);
    policy->sinks = command_word(3);
    policy->recent = command_word(4);
    policy->stride = command_word(5);
    policy->share = command_word(6);
    sequence->seed = command_word(7);
    sequence->gating.active = command_word(8);
    sequence->gating.mass = command_word(9);
    sequence->gating.probe = command_word(10);
    sequence->layers = first >> 8 & 255u;
    if (policy->kind >= POLICY_COUNT)
        return refuse(STATUS_BAD_POLICY, 1);
    if (sequence->layers == 0 || sequence->layers > LAYERS)
        return refuse(STATUS_BAD_VALUE, 1);
    bad = policy_check(policy, sequence->seed);
    if (bad == 0)
        bad = gating_check(&sequence->gating);
    return bad == 0 ? answer(0) : refuse(STATUS_BAD_VALUE, bad);
}

static uint32_t open_sequence(void)
{
    if (number_of_work() >= SEQUENCES)
        return refuse(STATUS_BAD_SEQUENCE, 0);
    struct sequence *sequence = sequence_of_work();
    if (sequence->open)
        return refuse(STATUS_ALREADY_OPEN, 0);
    uint32_t result = read_settings(sequence);
    if (result != answer(0))
        return result;
    sequence->slots = sequence->layers * sequence->policy.budget;
    sequence->first = sequences_place(&state.sequences, sequence->slots);
    if (sequence->first == NO_PLACE)
        return refuse(STATUS_NO_SPACE, 2);
    uint32_t base = sequence->first;
    for (uint32_t layer = 0; layer < sequence->layers; layer++, base += sequence->policy.budget)
        state.found[number_of_work()][layer]->base = base;
    forget_rows(sequence);
    sequences_insert(&state.sequences, number_of_work());
    reply_word(1, sequence->first);
    return answer(1);
}

static uint32_t close_sequence(void)
{
    uint32_t status = check_sequence();
    if (status != STATUS_OK)
        return refuse(status, 0);
    sequences_remove(&state.sequences, number_of_work());
    return answer(0);
}

static uint32_t reset_sequence(void)
{
    uint32_t status = check_sequence();
    if (status != STATUS_OK)
        return refuse(status, 0);
    forget_rows(sequence_of_work());
    return answer(0);
}

static uint32_t tell_state(void)
{
    uint32_t status = check_place();
    if (status != STATUS_OK)
        return refuse(status, 0);
    const struct place *place = place_of_work();
    reply_word(1, place->region.n);
    reply_word(2, place->region.position);
    reply_word(3, place->base);
    reply_word(4, place->gate.off);
    reply_word(5, sequence_of_work()->damaged);
    return answer(5);
}

static uint32_t tell_slots(void)
{
    uint32_t status = check_place();
    if (status != STATUS_OK)
        return refuse(status, 0);
    uint32_t kv_head = command_word(1), first = command_word(2), count = command_word(3);
    uint32_t budget = sequence_of_work()->policy.budget;
    if (kv_head >= KV_HEADS)
        return refuse(STATUS_BAD_HEAD, 1);
    if (first >= budget)
        return refuse(STATUS_BAD_VALUE, 2);
    if (count == 0 || count > SLOTS_LIMIT || count > budget - first)
        return refuse(STATUS_BAD_VALUE, 3);
    first += place_of_work()->base;
    for (uint32_t i = 0; i < count; i++) {
        reply_word(1 + 2 * i, unit(SLOT_MASS(kv_head, first + i)));
        reply_word(2 + 2 * i, unit(SLOT_POSITION(kv_head, first + i)));
    }
    return answer(2 * count);
}

/* Every command but STEP; nothing is in flight. Returns `answer` or `refuse`. */
static uint32_t do_command(uint32_t words)
{
    uint32_t operation = operation_of(state.work.head);
    if (operation >= OP_COUNT)
        return refuse(STATUS_BAD_OPERATION, 0);
    if (LENGTHS[operation] != 0 && LENGTHS[operation] != words)
        return refuse(STATUS_BAD_LENGTH, 0);
    switch (operation) {
    case OP_INFO: return info();
    case OP_OPEN: return open_sequence();
    case OP_CLOSE: return close_sequence();
    case OP_RESET: return reset_sequence();
    case OP_SET_HEAD: return set_head();
    case OP_SET_GAIN: return set_gains(words);
    case OP_SET_LAYER: return set_layer();
    case OP_SET_TIMEOUT: return set_timeout();
    case OP_COUNTERS: return tell_counters();
    case OP_SLOTS: return tell_slots();
    default: return tell_state();
    }
}

/* Taking a command ----------------------------------------------------------------------------------------------- */

/* The packets of a STEP are its own even if it is refused, as far as their number can be believed. */
static uint32_t packets_of(uint32_t words)
{
    uint32_t count = words > 1 ? command_word(1) : 0;
    return count <= STEP_LIMIT ? count : 0;
}

static void begin_step(struct work *work, uint32_t words)
{
    uint32_t status, detail = 0;
    work->left = packets_of(words);
    if (words != LENGTHS[OP_STEP]) {
        status = STATUS_BAD_LENGTH;
    } else {
        uint32_t only_append = command_word(3);
        work->flags = command_word(2);
        work->attend = only_append == 0;
        status = check_place();
        if (status == STATUS_OK && work->left == 0) {
            status = STATUS_BAD_VALUE;
            detail = 1;
        } else if (status == STATUS_OK && only_append > 1) {
            status = STATUS_BAD_VALUE;
            detail = 3;
        }
    }
    if (status == STATUS_OK) {
        work->sequence = sequence_of_work();
        work->place = place_of_work();
        if (state.aborting != 0) {
            status = STATUS_ABORTED;
            work->sequence->damaged = true;
        }
    }
    work->status = status;
    work->detail = detail;
    work->serial = ++state.serial;
    state.owed++;
    work->active = true;
    take_command();
}

/* A reply to each STEP taken, and one more, can be sent. */
static bool has_room(void)
{
    if (reply_room() > state.owed)
        return true;
    if (state.owed == 0)
        state.waiting |= EVENT_ROOM;
    return false;
}

bool take_next_command(void)
{
    uint32_t waits = scheduler(COMMAND_STATUS);
    if (!(waits & SCHEDULER_MASK(COMMAND_STATUS, COUNT))) {
        state.waiting |= EVENT_COMMAND;
        return false;
    }
    if (!has_room())
        return false;
    uint32_t words = as_number(waits >> SCHEDULER_PLACE(COMMAND_STATUS, WORDS)) &
                     SCHEDULER_MASK(COMMAND_STATUS, WORDS) >> SCHEDULER_PLACE(COMMAND_STATUS, WORDS);
    uint32_t head = command_word(0);
    bool is_step = operation_of(head) == OP_STEP;
    struct work *work = &state.work;
    if (!is_step && in_flight() != 0)
        return false;
    work->head = head;
    work->taken = false;
    if (is_step) {
        begin_step(work, words);
        return true;
    }
    work->active = true;
    uint32_t result = do_command(words);
    send_reply(head, result & ~255u, 1 + (result & 255u));
    take_command();
    work->active = false;
    return true;
}
