#include "steps.h"

#include "mailbox.h"

/* Jobs that the queue always has room for. */
#define LIMIT (JOB_QUEUE < FLIGHTS ? JOB_QUEUE : FLIGHTS)

/* Starting ------------------------------------------------------------------------------------------------------ */

/* An attending job of the region is in flight: what it says of the heads is not known yet. */
static bool heads_unknown(const struct place *place)
{
    for (const struct flight *flight = state.oldest; flight != state.newest; flight = flight->next)
        if (flight->place == place && (flight->traits & FLIGHT_GATED))
            return true;
    return false;
}

_Static_assert(UNIT_PLACE(JOB_CONTROL, PROFILE) == 16, "the layer has the place that it has in word 0 of a command");

static void write_job(const struct flight *flight, const struct layer *layer, const struct plan *plan, uint32_t attend)
{
    uint32_t control = layer->control | UNIT_MASK(JOB_CONTROL, APPEND);
    control |= flight->head & UNIT_MASK(JOB_CONTROL, PROFILE);
    if (attend)
        control |= UNIT_MASK(JOB_CONTROL, ATTEND);
    if (plan->silent)
        control |= UNIT_MASK(JOB_CONTROL, SILENT);
    if (plan->evict) {
        control |= UNIT_MASK(JOB_CONTROL, EVICT) | plan->metric << UNIT_PLACE(JOB_CONTROL, METRIC);
        unit(JOB_SINKS) = plan->low;
        unit(JOB_RECENT) = plan->recent;
    } else {
        unit(JOB_SLOT) = flight->rows - 1;
    }
    unit(JOB_N) = flight->rows;
    unit(JOB_BASE) = flight->place->base;
    unit(JOB_POSITION) = flight->position;
    unit(JOB_HEAD_DIM) = layer->head_dim;
    unit(JOB_MASK) = ~flight->ran & ALL_HEADS;
    unit(JOB_CONTROL) = control;
}

void count_started(void)
{
    struct work *work = &state.work;
    state.started++;
    state.newest = state.newest->next;
    work->flags >>= 1;
    if (--work->left == 0)
        work->active = false;
}

/* Starts the job of the next token. An entry is complete before START, so that a restart finds what START began. */
static void start_job(struct work *work, bool gated)
{
    struct flight *flight = state.newest;
    struct place *place = work->place;
    const struct policy *policy = &work->sequence->policy;
    const struct layer *layer = &state.layers[layer_of(work->head)];
    struct plan plan;
    region_copy(policy, &flight->before, &place->region);
    flight->position = place->region.position;
    if (flight->position >= POSITIONS) {
        work->status = STATUS_FULL;
        return;
    }
    plan_step(policy, &place->region, work->flags & 1, &plan);
    if (plan.refuse) {
        work->status = STATUS_FULL;
        return;
    }
    flight->place = place;
    flight->sequence = work->sequence;
    flight->head = work->head;
    flight->serial = work->serial;
    flight->traits = (gated ? FLIGHT_GATED : 0) | (plan.evict ? FLIGHT_EVICT : 0) | (work->left == 1 ? FLIGHT_LAST : 0);
    flight->rows = place->region.n;
    flight->off = gated ? place->gate.off : 0;
    flight->ran = ~(layer->mask | flight->off) & ALL_HEADS;
    write_job(flight, layer, &plan, work->attend);
    unit(START) = 1;
    count_started();
}

/* Drops what is left of a STEP that failed, and answers it when its jobs have ended. */
static bool give_up(struct work *work)
{
    if (work->left != 0) {
        if (!(scheduler(EVENTS) & EVENT_GATE)) {
            state.waiting |= EVENT_GATE;
            return false;
        }
        scheduler(GATE_DROP) = 1;
        work->left--;
        return true;
    }
    if (in_flight() != 0)
        return false;
    answer_step(work->head, work->serial, VERDICT(work->status, work->detail));
    work->active = false;
    return true;
}

bool work_on_step(void)
{
    struct work *work = &state.work;
    if (work->status != STATUS_OK)
        return give_up(work);
    if (work->sequence->damaged) {
        work->status = STATUS_DAMAGED;
        return true;
    }
    bool gated = work->attend && gating_on(&work->sequence->gating);
    if (in_flight() >= LIMIT || (gated && heads_unknown(work->place)))
        return false;
    start_job(work, gated);
    return true;
}

/* Retiring ------------------------------------------------------------------------------------------------------ */

struct outcome *outcome_of(uint32_t serial)
{
    struct outcome *outcome = &state.outcome;
    if (outcome->serial != serial) {
        outcome->serial = serial;
        outcome->status = STATUS_OK;
        outcome->rows = 0;
        outcome->position = 0;
        outcome->done = 0;
        outcome->off = 0;
    }
    return outcome;
}

static void write_outcome(const struct outcome *outcome)
{
    reply_word(1, outcome->rows);
    reply_word(2, outcome->position);
    reply_word(3, outcome->done);
    reply_word(4, outcome->off);
}

void answer_step(uint32_t head, uint32_t serial, uint32_t verdict)
{
    const struct outcome *outcome = outcome_of(serial);
    if (outcome->status != STATUS_OK)
        verdict = VERDICT(outcome->status, 0);
    write_outcome(outcome);
    for (uint32_t i = 5; i < STEP_REPLY_WORDS; i++)
        reply_word(i, 0);
    /* With less room than is owed, it was sent just before a restart: again, it would take the place of another. */
    if (reply_room() >= state.owed)
        send_reply(head, verdict, STEP_REPLY_WORDS);
    state.owed--;
}

/* The slots that the rows of each pair of KV heads went to. */
static void write_slots(const struct flight *flight)
{
    const volatile uint32_t *slots = flight->slots;
    bool chosen = (flight->traits & FLIGHT_EVICT) != 0;
    uint32_t low = flight->rows - 1, high = low;
#pragma clang loop unroll(disable)
    for (uint32_t kv_head = 0; kv_head < KV_HEADS; kv_head += 2, slots += 2) {
        if (chosen) {
            low = slots[0] & UNIT_MASK(JOB_SLOTSXX, SLOT);
            if (kv_head + 1 < KV_HEADS)
                high = slots[1];
        }
        reply_word(5 + kv_head / 2, kv_head + 1 < KV_HEADS ? low | high << 16 : low);
    }
}

static void answer_done(const struct flight *flight, const struct outcome *outcome)
{
    write_outcome(outcome);
    write_slots(flight);
    send_reply(flight->head, VERDICT(STATUS_OK, 0), STEP_REPLY_WORDS);
    state.owed--;
}

/* A job's packet was bad. Its region is put back as it was before, unless a later job builds on it. */
static void undo(struct flight *flight)
{
    bool later = false;
    for (struct flight *other = flight->next; other != state.newest; other = other->next) {
        if (other->place == flight->place) {
            other->traits |= FLIGHT_SPOILT;
            later = true;
        }
    }
    if (later)
        flight->sequence->damaged = true;
    else
        region_copy(&flight->sequence->policy, &flight->place->region, &flight->before);
}

/* The first job that was given up has ended: those behind it were not. */
static void forget_lateness(void)
{
    for (uint32_t i = 0; i < FLIGHTS; i++)
        state.flights[i].traits &= ~FLIGHT_LATE;
}

static bool was_dropped(uint32_t bits)
{
    return (bits & (UNIT_MASK(JOB_STATE, SHORT0) | UNIT_MASK(JOB_STATE, LONG0))) != 0;
}

/* Status of a job that ended with the given bits of JOB_STATE. */
static uint32_t judge(struct flight *flight, uint32_t bits)
{
    if (flight->traits & FLIGHT_SPOILT)
        return STATUS_DAMAGED;
    if (was_dropped(bits)) {
        bool late = (flight->traits & FLIGHT_LATE) && (bits & UNIT_MASK(JOB_STATE, SHORT0));
        if (late)
            forget_lateness();
        undo(flight);
        return late ? STATUS_TIMEOUT : STATUS_BAD_PACKET;
    }
    if (bits & UNIT_MASK(JOB_STATE, NO_VICTIM0)) {
        flight->sequence->damaged = true;
        return STATUS_DAMAGED;
    }
    return STATUS_OK;
}

#if HEAD_LOG
static void observe_heads(const struct flight *flight, uint32_t job)
{
    struct gate *gate = &flight->place->gate;
    const struct gating *gating = &flight->sequence->gating;
    uint32_t tag = job & (FLIGHTS - 1);
    gate_rest(gate);
    for (uint32_t head = 0, ran = flight->ran; ran; head++, ran >>= 1) {
        if (ran & 1) {
            uint32_t active = unit(JOB_HEADS_SUMMARY(tag, head)) & UNIT_MASK(JOB_HEADSXX__SUMMARY, ACTIVE);
            gate_observe(gating, gate, head, active, unit(JOB_HEADS_MASS(tag, head)));
        }
    }
}
#else
static void observe_heads(const struct flight *flight, uint32_t job)
{
    (void)flight;
    (void)job;
}
#endif

/* No more jobs of a STEP are started. */
static void fail_work(uint32_t serial, uint32_t status)
{
    struct work *work = &state.work;
    if (work->active && work->serial == serial && work->status == STATUS_OK)
        work->status = status;
}

static void end_job(struct flight *flight, uint32_t job, uint32_t bits)
{
    struct outcome *outcome = outcome_of(flight->serial);
    uint32_t status = judge(flight, bits);
    if (flight->traits & FLIGHT_GATED && status == STATUS_OK)
        observe_heads(flight, job);
    if (outcome->status == STATUS_OK)
        outcome->status = status;
    if (!was_dropped(bits)) {
        outcome->rows = flight->rows;
        outcome->position = flight->position;
        outcome->off = flight->off;
        outcome->done++; /* Whatever its status: the host gets a result for it, if it attends. */
    }
    if (outcome->status != STATUS_OK)
        fail_work(flight->serial, outcome->status);
    if (!(flight->traits & FLIGHT_LAST))
        return;
    if (outcome->status == STATUS_OK)
        answer_done(flight, outcome);
    else
        answer_step(flight->head, flight->serial, 0);
}

/* The host did not send in time: the packet that the unit waits for is ended, once until a job ends. Whose it is cannot
   be seen, but it is the first of these jobs to be short. */
static void look_at_clock(void)
{
    state.waiting |= EVENT_TIMEOUT;
    if (!(scheduler(EVENTS) & EVENT_TIMEOUT))
        return;
    state.giving_up = true;
    uint32_t states = unit(JOB_STATE);
    struct flight *flight = state.oldest;
    do {
        if (!(states >> flight->shift & UNIT_MASK(JOB_STATE, DONE0)))
            flight->traits |= FLIGHT_LATE;
        flight = flight->next;
    } while (flight != state.newest);
    scheduler(GATE_ABORT) = 1;
}

bool retire_job(void)
{
    uint32_t job = state.retired;
    struct flight *flight = state.oldest;
    if (job == state.started)
        return false;
    scheduler(EVENT_CLEAR) = 1;
    uint32_t bits = unit(JOB_STATE) >> flight->shift;
    if (!(bits & UNIT_MASK(JOB_STATE, DONE0))) {
        state.waiting |= EVENT_JOB;
        if (state.patience != 0 && !state.giving_up)
            look_at_clock();
        return false;
    }
    state.retiring = true;
    end_job(flight, job, bits);
    state.retired = job + 1;
    state.oldest = flight->next;
    state.retiring = false;
    state.giving_up = false;
    return true;
}
