/* Commands: what they ask for is checked, then done. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <stdbool.h>

/* Takes the oldest command if it can be worked on now, and does it or, a STEP, begins it. Says whether it did; else
   adds to `state.waiting` the events after which it may. No STEP is under work. */
bool take_next_command(void);

#endif
