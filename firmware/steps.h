/* From a STEP to its jobs, and from the end of a job to the reply. */
#ifndef STEPS_H
#define STEPS_H

#include <stdbool.h>

#include "state.h"

/* Each does a little, if there is something to do, and says whether it did; else it adds to `state.waiting` the events
   after which there may be. */

/* Looks at the oldest job. */
bool retire_job(void);

/* Starts a job of the STEP under work, or drops a packet of it, or answers it. */
bool work_on_step(void);

/* The job in the entry behind those in flight was started. */
void count_started(void);

/* What is known of the jobs of the STEP with the serial number: nothing, if that of another STEP was kept. */
struct outcome *outcome_of(uint8_t serial);

/* Answers the STEP whose serial number is given, with what is known of its jobs; `status` holds if none of them
   failed. */
void answer_step(uint8_t serial, uint32_t tag, uint32_t status, uint32_t detail);

/* The sequence lost its thread. */
static inline void damage(uint32_t sequence)
{
    state.sequences.all[sequence].damaged = true;
}

#endif
