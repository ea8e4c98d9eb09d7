/* How the core starts: cold, forgetting everything, or warm, after a restart. */
#ifndef RECOVERY_H
#define RECOVERY_H

#include <stdint.h>

/* `cause` as in START_CAUSE. */
void start_up(uint32_t cause);

#endif
