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
    state.started = unit(JOBS_STARTED);
    state.retired = state.started;
    state.identity = FIRMWARE_ID;
}

/* Sequence and layer are open, and `place` is theirs. */
static bool flight_sound(const struct flight *flight)
{
    if (flight->sequence >= SEQUENCES || flight->layer >= LAYERS)
        return false;
    return flight->place == &state.places[flight->sequence][flight->layer] &&
           state.sequences.all[flight->sequence].open;
}

/* The STEP under work has jobs to start. */
static bool starting(void)
{
    const struct work *work = &state.work;
    return work->active && work->operation == OP_STEP && work->left != 0;
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
        if (!flight_sound(flight_of(job)))
            return false;
    return state.work.left <= STEP_LIMIT;
}

/* The oldest job in flight is not looked at; its STEP fails with `status`. */
static void end_flight(uint32_t status)
{
    const struct flight *flight = flight_of(state.retired);
    struct outcome *outcome = outcome_of(flight->serial);
    if (outcome->status == STATUS_OK)
        outcome->status = (uint8_t)status;
    damage(flight->sequence);
    if (flight->last)
        answer_step(flight->serial, flight->tag, status, 0);
    state.retired++;
}

/* The command under work may have changed its sequence by half. */
static void damage_work(void)
{
    const struct work *work = &state.work;
    bool changes = work->operation == OP_STEP || work->operation == OP_RESET;
    if (changes && work->sequence < SEQUENCES && state.sequences.all[work->sequence].open)
        damage(work->sequence);
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
    if (work->operation == OP_STEP) {
        for (uint32_t job = state.retired; job != state.started; job++)
            if (flight_of(job)->serial == work->serial)
                flight_of(job)->last = false;
        work->status = (uint8_t)status;
        return;
    }
    send_reply(work->operation, STATUS_FAULT, 0, work->tag, 1);
    work->active = false;
}

/* Replies to STEPs, from what is known of them. */
static void count_owed(void)
{
    state.owed = state.work.active && state.work.operation == OP_STEP;
    for (uint32_t job = state.retired; job != state.started; job++)
        state.owed += flight_of(job)->last;
}

static void start_warm(uint32_t cause)
{
    state.recovering = true;
    state.restarts++;
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
    state.recovering = false;
}

void start_up(uint32_t cause)
{
    if (cause == CAUSE_COLD || !state_sound())
        start_cold();
    else
        start_warm(cause);
}
