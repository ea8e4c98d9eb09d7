#include <stdbool.h>
#include <stdint.h>

#include "commands.h"
#include "io.h"
#include "recovery.h"
#include "state.h"
#include "steps.h"

struct state state;

/* Called by start.S. */
_Noreturn void run(void);
/* A trap restarts the core: what was under work is lost, the rest is not (recovery.c). */
_Noreturn void trap(void);

/* The next command is taken if none is under work; a STEP under work goes on. */
static bool do_work(void)
{
    bool took = !state.work.active && take_next_command();
    bool went_on = state.work.active && work_on_step();
    return took || went_on;
}

/* Until one of the events that something waits for. They are levels: none is missed. */
static void sleep(void)
{
    scheduler(EVENT_ENABLE) = state.waiting;
    __asm__ volatile("wfi");
}

_Noreturn void run(void)
{
    start_up(scheduler(START_CAUSE) & SCHEDULER_MASK(START_CAUSE, CAUSE));
    for (;;) {
        scheduler(WATCHDOG) = 1;
        state.waiting = 0;
        bool retired = retire_job();
        if (!do_work() && !retired)
            sleep();
    }
}

_Noreturn void trap(void)
{
    scheduler(RESTART) = 1;
    for (;;)
        ;
}
