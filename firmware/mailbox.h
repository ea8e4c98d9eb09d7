/* Commands and replies. */
#ifndef MAILBOX_H
#define MAILBOX_H

#include "io.h"
#include "messages.h"
#include "speed.h"
#include "state.h"

#define STEP_REPLY_WORDS (5u + (KV_HEADS + 1u) / 2u)

static inline uint32_t command_word(uint32_t i)
{
    return scheduler(COMMAND(i));
}

/* Drops the command under work from the mailbox. */
static inline void take_command(void)
{
    if (UNLIKELY(state.aborting != 0))
        state.aborting--;
    scheduler(COMMAND_TAKE) = 1;
    state.work.taken = true;
}

/* Replies that there is room for. */
static inline uint32_t reply_room(void)
{
    return scheduler(REPLY_STATUS) & SCHEDULER_MASK(REPLY_STATUS, ROOM);
}

static inline void reply_word(uint32_t i, uint32_t value)
{
    scheduler(REPLY(i)) = value;
}

/* Status and detail in their places in word 0 of a reply. */
#define VERDICT(status, detail) ((status) << 8 | (detail) << 16)

/* Sends words 0 ... words - 1; those behind word 0 are written. `head` is that of the command. */
static inline void send_reply(uint32_t head, uint32_t verdict, uint32_t words)
{
    reply_word(0, (head & 0xFF0000FFu) | verdict);
    scheduler(REPLY_SEND) = words;
}

#endif
