#include "recovery.h"

#include "mailbox.h"
#include "state.h"
#include "steps.h"

#define CAUSE_COLD 0u
#define CAUSE_HOST 1u

/* Without the compiler's memset. */
static void clear_state(void)
{
    volatile uint32_t *word = (volatile uint32_t *)&state;
    for (uint32_t i = 0; i < sizeof state / sizeof *word; i++)
        word[i] = 0;
}

/* Stops the unit and forgets what was decided of packets. Jobs end without a trace. */
static void stop_unit(void)
{
    unit(CONTROL) = UNIT_MASK(CONTROL, SOFT_RESET);
    scheduler(GATE_RESET) = 1;
}

static void start_cold(void)
{
    clear_state();
    stop_unit();
    scheduler(GATE_TIMEOUT) = 0;
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        state.layers[layer].head_dim = HEAD_DIM;
    for (uint32_t i = 0; i < FLIGHTS; i++) {
        state.flights[i].next = &state.flights[(i + 1) & (FLIGHTS - 1)];
        state.flights[i].shift = 8 * i;
        state.flights[i].slots = &unit(JOB_SLOTS(i, 0));
    }
    struct place *place = &state.places[0][0];
    for (uint32_t sequence = 0; sequence < SEQUENCES; sequence++)
        for (uint32_t layer = 0; layer < LAYERS; layer++)
            state.found[sequence][layer] = place++;
    state.started = unit(JOBS_STARTED);
    state.retired = state.started;
    state.newest = flight_of(state.started);
    state.oldest = state.newest;
    state.identity = FIRMWARE_ID;
}

/* The sequence and the layer that word 0 names are open, and the pointers are theirs. */
static bool names_sound(uint32_t head, const struct sequence *sequence, const struct place *place)
{
    uint32_t number = sequence_of(head), layer = layer_of(head);
    if (number >= SEQUENCES || layer >= LAYERS)
        return false;
    return sequence == &state.sequences.all[number] && place == state.found[number][layer] && sequence->open;
}

/* The entry of a job, which is to have tag `i`. */
static bool flight_sound(const struct flight *flight, uint32_t i)
{
    return flight->next == &state.flights[(i + 1) & (FLIGHTS - 1)] && flight->shift == 8 * i &&
           flight->slots == &unit(JOB_SLOTS(i, 0));
}

/* The STEP under work has jobs to start. */
static bool starting(void)
{
    const struct work *work = &state.work;
    return work->active && operation_of(work->head) == OP_STEP && work->left != 0;
}

/* What was kept can be worked with. A START that was not counted is that of a STEP under work. */
static bool state_sound(void)
{
    uint32_t started = unit(JOBS_STARTED);
    if (state.identity != FIRMWARE_ID || state.recovering || started - state.started > starting())
        return false;
    if (in_flight() > FLIGHTS || started - state.retired > FLIGHTS || !sequences_sound(&state.sequences))
        return false;
    for (uint32_t job = state.retired; job != started; job++)
        if (!names_sound(flight_of(job)->head, flight_of(job)->sequence, flight_of(job)->place))
            return false;
    for (uint32_t i = 0; i < FLIGHTS; i++)
        if (!flight_sound(&state.flights[i], i))
            return false;
    return state.work.left <= STEP_LIMIT;
}

/* The oldest job in flight is not looked at; its STEP fails with `status`. */
static void end_flight(uint32_t status)
{
    const struct flight *flight = state.oldest;
    struct outcome *outcome = outcome_of(flight->serial);
    if (outcome->status == STATUS_OK)
        outcome->status = status;
    flight->sequence->damaged = true;
    if (flight->traits & FLIGHT_LAST)
        answer_step(flight->head, flight->serial, 0);
    state.retired++;
    state.oldest = flight->next;
}

/* The command under work may have changed its sequence by half. */
static void damage_work(void)
{
    uint32_t operation = operation_of(state.work.head), number = sequence_of(state.work.head);
    bool changes = operation == OP_STEP || operation == OP_RESET;
    if (changes && number < SEQUENCES && state.sequences.all[number].open)
        state.sequences.all[number].damaged = true;
}

/* The command under work is out of the mailbox. It still is in there if the oldest has its word 0: tags differ. */
static void finish_taking(void)
{
    bool waits = scheduler(COMMAND_STATUS) & SCHEDULER_MASK(COMMAND_STATUS, COUNT);
    if (!state.work.taken && waits && command_word(0) == state.work.head)
        take_command();
}

/* The command under work is answered; a STEP when its packets are dropped and its jobs have ended. */
static void end_work(uint32_t status)
{
    struct work *work = &state.work;
    damage_work();
    finish_taking();
    if (operation_of(work->head) == OP_STEP) {
        work->status = status;
        return;
    }
    send_reply(work->head, VERDICT(STATUS_FAULT, 0), 1);
    work->active = false;
}

/* Replies to STEPs, from what is known of them. */
static void count_owed(void)
{
    state.owed = state.work.active && operation_of(state.work.head) == OP_STEP;
    for (uint32_t job = state.retired; job != state.started; job++)
        state.owed += flight_of(job)->traits & FLIGHT_LAST;
}

static void start_warm(uint32_t cause)
{
    state.recovering = true;
    state.restarts++;
    state.newest = flight_of(state.started);
    state.oldest = flight_of(state.retired);
    if (unit(JOBS_STARTED) != state.started)
        count_started();
    count_owed();
    scheduler(GATE_TIMEOUT) = state.patience;
    if (cause == CAUSE_HOST) {
        stop_unit();
        while (in_flight() != 0)
            end_flight(STATUS_ABORTED);
        state.work.left = 0;
    } else if (state.retiring) {
        end_flight(STATUS_FAULT);
    }
    state.retiring = false;
    state.giving_up = false;
    if (state.work.active)
        end_work(cause == CAUSE_HOST ? STATUS_ABORTED : STATUS_FAULT);
    if (cause == CAUSE_HOST)
        state.aborting = scheduler(COMMAND_STATUS) & SCHEDULER_MASK(COMMAND_STATUS, COUNT);
    state.recovering = false;
}

void start_up(uint32_t cause)
{
    if (cause == CAUSE_COLD || !state_sound())
        start_cold();
    else
        start_warm(cause);
}
