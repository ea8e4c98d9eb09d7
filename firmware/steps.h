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
struct outcome *outcome_of(uint32_t serial);

/* Answers the STEP with the word 0 and serial number given, with what is known of its jobs; `verdict` holds if none of
   them failed. */
void answer_step(uint32_t head, uint32_t serial, uint32_t verdict);

#endif
