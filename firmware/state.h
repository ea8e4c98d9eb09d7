/* All that the scheduler remembers. It is kept when the core restarts warm. */
#ifndef STATE_H
#define STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "gating.h"
#include "policies.h"
#include "sequences.h"

#define FLIGHTS 4u /* The tag of a job has 2 bits. */

/* Commands name a layer; this is what is known of one in one sequence. */
struct place {
    struct region region;
    struct gate gate;
    uint32_t base; /* First slot. */
};

/* What SET_LAYER said. */
struct layer {
    uint32_t mask, control, head_dim; /* `control`: normaliser and emit_context, as in JOB_CONTROL. */
};

/* The fields of word 0 of a command. */
static inline uint32_t operation_of(uint32_t head)
{
    return head & 255u;
}

static inline uint32_t sequence_of(uint32_t head)
{
    return head >> 8 & 255u;
}

static inline uint32_t layer_of(uint32_t head)
{
    return head >> 16 & 255u;
}

/* What is remembered is in words: the core takes longer for bytes, and for long shifts. */

/* A job that was started and not yet looked at. */
struct flight {
    struct flight *next; /* Of the job behind it: they are a ring. */
    struct place *place;
    struct sequence *sequence;
    uint32_t head;  /* Word 0 of its STEP. */
    uint32_t serial; /* Of its STEP. */
    uint32_t shift; /* Of its bits in JOB_STATE. */
    const volatile uint32_t *slots; /* Of its tag in JOB_SLOTS. */
    uint32_t traits;
    uint32_t rows, position, off, ran;
    struct region before; /* What region_copy keeps, from before the step. */
};

#define FLIGHT_LAST 1u   /* Of its STEP, which is answered with it. */
#define FLIGHT_GATED 2u  /* The heads that run are observed. */
#define FLIGHT_EVICT 4u  /* The unit chose the slots. */
#define FLIGHT_SPOILT 8u /* A job of the same region before it failed. */
#define FLIGHT_LATE 16u  /* If its packet is short, it was given up. */

/* The command under work: a STEP whose jobs are not all started, or another command. */
struct work {
    uint32_t active;
    uint32_t taken;          /* Out of the mailbox. */
    uint32_t head;           /* Word 0. */
    uint32_t serial;         /* Of a STEP. */
    uint32_t status, detail; /* Status above 0: the rest of the packets is dropped, then it is answered. */
    uint32_t attend, flags, left; /* Flags and number of the tokens not yet started. */
    struct sequence *sequence;    /* Of a STEP that is done. */
    struct place *place;
};

/* What became of the STEP whose jobs end now. */
struct outcome {
    uint32_t serial, status, rows, position, done, off;
};

struct state {
    uint32_t identity; /* FIRMWARE_ID, when the rest can be believed. */
    uint32_t restarts; /* Since the cold start. */
    uint32_t recovering; /* A warm start is not over. */
    uint32_t retiring;   /* The oldest job is looked at. */
    uint32_t giving_up;  /* A packet was ended, and no job since. */
    uint32_t patience;   /* What SET_TIMEOUT said. */
    uint32_t serial;     /* Of the latest STEP. */
    uint32_t owed;       /* Replies to STEPs that were taken. */
    uint32_t aborting;   /* Commands that the host sent before it restarted the core. */
    uint32_t waiting;    /* Events that end the sleep. */
    uint32_t started, retired;       /* Jobs; `started` is the unit's JOBS_STARTED. */
    struct flight *newest, *oldest; /* Entries of the jobs of these numbers. */
    struct work work;
    struct outcome outcome;
    struct flight flights[FLIGHTS];
    struct layer layers[LAYERS];
    struct sequences sequences;
    struct place places[SEQUENCES][LAYERS];
    struct place *found[SEQUENCES][LAYERS]; /* The same places: a multiplication less. */
};

extern struct state state;

static inline uint32_t in_flight(void)
{
    return state.started - state.retired;
}

static inline struct flight *flight_of(uint32_t job)
{
    return &state.flights[job & (FLIGHTS - 1)];
}

#endif
