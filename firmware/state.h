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

/* A job that was started and not yet looked at. */
struct flight {
    struct place *place;
    struct region before; /* What region_copy keeps, from before the step. */
    uint32_t rows, position, off, ran;
    uint8_t sequence, layer, serial, tag;
    bool evict;   /* The unit chose the slots. */
    bool gated;   /* The heads that run are observed. */
    bool last;    /* Of its STEP, which is answered with it. */
    bool spoilt;  /* A job of the same region before it failed. */
    bool late;    /* If its packet is short, it was given up. */
};

/* The command under work: a STEP whose jobs are not all started, or another command. */
struct work {
    bool active, attend;
    bool taken;    /* Out of the mailbox. */
    uint8_t operation, sequence, layer, tag, serial;
    uint8_t status, detail; /* Status above 0: the rest of the packets is dropped, then it is answered. */
    uint32_t head;          /* Word 0. */
    uint32_t flags, left;   /* Flags and number of the tokens not yet started. */
};

/* What became of the STEP whose jobs end now. */
struct outcome {
    uint8_t serial, status;
    uint32_t rows, position, done, off;
};

struct state {
    uint32_t identity; /* FIRMWARE_ID, when the rest can be believed. */
    uint32_t restarts; /* Since the cold start. */
    bool recovering;   /* A warm start is not over. */
    bool retiring;     /* The oldest job is looked at. */
    bool giving_up;    /* A packet was ended, and no job since. */
    uint8_t patience;  /* What SET_TIMEOUT said. */
    uint8_t serial;    /* Of the latest STEP. */
    uint8_t owed;      /* Replies to STEPs that were taken. */
    uint32_t started, retired; /* Jobs; `started` is the unit's JOBS_STARTED. */
    uint32_t waiting;          /* Events that end the sleep. */
    struct work work;
    struct outcome outcome;
    struct flight flights[FLIGHTS];
    struct layer layers[LAYERS];
    struct sequences sequences;
    struct place places[SEQUENCES][LAYERS];
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
