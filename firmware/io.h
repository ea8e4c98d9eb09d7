/* Registers of the scheduler and of the unit, as whole words. */
#ifndef IO_H
#define IO_H

#include <stdint.h>

#include "registers.h"
#include "scheduler.h"

#define SCHEDULER_BASE 0x40000000u
#define UNIT_BASE 0x80000000u

/* `scheduler(COMMAND_STATUS)`, `unit(JOB_N)`: a register by its name in the map. */
#define scheduler(name) (*(volatile uint32_t *)(SCHEDULER_BASE + SCHEDULER_OFFSET_##name))
#define unit(name) (*(volatile uint32_t *)(UNIT_BASE + RELUCTANT_OFFSET_##name))

/* Masks and places of fields: `UNIT_BIT(JOB_CONTROL, ATTEND)`. */
#define SCHEDULER_MASK(name, field) (uint32_t)SCHEDULER__##name##__##field##_bm
#define SCHEDULER_PLACE(name, field) SCHEDULER__##name##__##field##_bp
#define UNIT_MASK(name, field) (uint32_t)SPARSE_ATTENTION_UNIT__##name##__##field##_bm
#define UNIT_PLACE(name, field) SPARSE_ATTENTION_UNIT__##name##__##field##_bp

#define EVENT_COMMAND SCHEDULER_MASK(EVENTS, COMMAND)
#define EVENT_ROOM SCHEDULER_MASK(EVENTS, ROOM)
#define EVENT_JOB SCHEDULER_MASK(EVENTS, JOB)
#define EVENT_TIMEOUT SCHEDULER_MASK(EVENTS, TIMEOUT)
#define EVENT_GATE SCHEDULER_MASK(EVENTS, GATE)

#endif
