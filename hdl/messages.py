"""What host and firmware say to each other: operations, statuses and the words of their messages.

The one description of the mailbox's contents: the host link uses it, and :func:`c_header` gives it to the firmware.
Word 0 of a command is ``operation | sequence << 8 | layer << 16 | tag << 24``; word 0 of its reply is
``operation | status << 8 | detail << 16 | tag << 24``. Every command gets one reply, in the order of the commands.
"""

from enum import IntEnum

from reluctant.golden.policies import Policy

__all__ = ["MESSAGE_WORDS", "SLOTS_LIMIT", "STEP_LIMIT", "Operation", "Status", "c_header"]

MESSAGE_WORDS = 32
"""Words of the longest message."""
STEP_LIMIT = 1024
"""Tokens of one STEP."""


class Operation(IntEnum):
    """What a command asks for; the words behind word 0, then those of the reply behind its word 0.

    Words that hold a register's contents have the layout of the unit's register of that name.
    """

    INFO = 0
    """() -> (open sequences as a bit mask, slots free, longest free run of slots, restarts since cold start)."""
    OPEN = 1
    """(policy | layers << 8 | normalised << 16, budget, sinks, recent, stride, share, seed, gate_active, gate_mass,
    probe) -> (first slot). Layer l then owns slots ``first + l * budget ...``."""
    CLOSE = 2
    """() -> ()."""
    RESET = 3
    """() -> (). The sequence forgets its rows; it keeps its region and settings."""
    STEP = 4
    """(count, flags, no attend) -> (rows attended, position, tokens done, heads off, slots of KV heads 0 and 1 << 16,
    2 and 3, ...), of the last token. ``count`` packets belong to it, refused or not, if 1 <= count <= STEP_LIMIT.
    Bit t of ``flags``: token t is to leave early (DMS); tokens from 32 on have no flag. ``no attend`` 1: the tokens are
    only appended. ``tokens done`` counts those whose packet was good and whose job ran, whatever the status: an
    attending STEP brings so many result packets."""
    SET_HEAD = 5
    """(head, THETA, MODE, KAPPA, MIN_ACTIVE, MIN_MASS, ALPHA, SINK) -> (). Of the layer, for all sequences."""
    SET_GAIN = 6
    """(head | first element << 8, gain, ...) -> ()."""
    SET_LAYER = 7
    """(mask, normaliser | emit_context << 3, head dimension) -> ()."""
    SET_TIMEOUT = 8
    """(bits) -> (). A packet that does not come for ``2**bits`` cycles is given up; 0: never. 0 after a cold start."""
    COUNTERS = 9
    """(clear) -> (low and high half of each performance counter of the unit, in order, then of mcycle and minstret)."""
    SLOTS = 10
    """(KV head, first slot, count) -> (mass, position, ...) of up to SLOTS_LIMIT slots, counted from the layer's first
    slot."""
    STATE = 11
    """() -> (rows, position of the next token, first slot, heads off by gating, damaged)."""


SLOTS_LIMIT = (MESSAGE_WORDS - 1) // 2


class Status(IntEnum):
    """How a command went. ``detail`` is the number of the word that was wrong, where one was."""

    OK = 0
    BAD_OPERATION = 1
    BAD_LENGTH = 2
    BAD_SEQUENCE = 3
    """No such number."""
    CLOSED = 4
    """The sequence is not open."""
    ALREADY_OPEN = 5
    BAD_LAYER = 6
    BAD_HEAD = 7
    BAD_VALUE = 8
    """A word is out of range, or contradicts another."""
    BAD_POLICY = 9
    NO_SPACE = 10
    """No run of free slots is long enough."""
    FULL = 11
    """The policy refuses more rows than the budget."""
    BAD_PACKET = 12
    """A packet was too short or too long; its step did not happen."""
    TIMEOUT = 13
    """A packet did not come in time; its step did not happen."""
    FAULT = 14
    """The firmware trapped or hung while it worked on this command; the sequence is damaged."""
    DAMAGED = 15
    """The sequence lost its thread after an error: reset or close it."""
    ABORTED = 16
    """The host restarted the scheduler before the step was over; the sequence is damaged."""
    UNSUPPORTED = 17
    """This unit was built without it."""


def c_header() -> str:
    """Text of ``messages.h``: every number above as a macro."""
    lines = ["#ifndef MESSAGES_H", "#define MESSAGES_H", ""]
    for prefix, items in (("OP", Operation), ("STATUS", Status), ("POLICY", Policy)):
        lines += [f"#define {prefix}_{item.name} {item.value}u" for item in items]
        lines.append(f"#define {prefix}_COUNT {len(items)}u")
        lines.append("")
    for name in ("MESSAGE_WORDS", "STEP_LIMIT", "SLOTS_LIMIT"):
        lines.append(f"#define {name} {globals()[name]}u")
    return "\n".join([*lines, "", "#endif", ""])
