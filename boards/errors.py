"""What can go wrong between a host and a system, one type for each."""

from collections.abc import Sequence

from reluctant.hdl.messages import Operation, Status

__all__ = [
    "AbortedError",
    "AlreadyOpenError",
    "BadHeadError",
    "BadLayerError",
    "BadLengthError",
    "BadOperationError",
    "BadPacketError",
    "BadPolicyError",
    "BadSequenceError",
    "BadValueError",
    "ClosedError",
    "CommandError",
    "DamagedError",
    "FaultError",
    "FullError",
    "HostError",
    "LostError",
    "NoReplyError",
    "NoSpaceError",
    "StepTimeoutError",
    "UnsupportedError",
    "WrongSystemError",
    "command_error",
]


class HostError(RuntimeError):
    """Base of all errors of the host link."""


class WrongSystemError(HostError):
    """What answers is not the system of the configuration."""


class NoReplyError(HostError):
    """The scheduler did not reply in time. The command is still under way: waiting again is possible."""


class LostError(HostError):
    """The scheduler restarted and never replied to the command."""


class CommandError(HostError):
    """A command that the firmware did not carry out.

    Attributes
    ----------
    status
        A :class:`Status`; each has a subclass.
    operation
        What was asked for.
    sequence, layer
        For which; 0 where the operation has none.
    detail
        Number of the command's word that was wrong, or 0.
    answers
        Of a step or prefill: a :class:`reluctant.boards.results.Answer` for each token that was done before.
    """

    status: Status
    reason: str

    def __init__(
        self, operation: Operation, sequence: int = 0, layer: int = 0, detail: int = 0, words: Sequence[int] = ()
    ):
        """``words``: those of the command, for the message."""
        place = _PLACES[_SCOPES[operation]].format(sequence=sequence, layer=layer)
        super().__init__(f"{operation.name}{place}: {self.reason}{_wrong(operation, detail, words)}")
        self.operation, self.sequence, self.layer, self.detail = operation, sequence, layer, detail
        self.answers: tuple = ()


_PLACES = ("", " of sequence {sequence}", " of layer {layer}", " of sequence {sequence}, layer {layer}")
_NONE, _SEQUENCE, _LAYER, _BOTH = range(4)
_SCOPES = {
    Operation.INFO: _NONE,
    Operation.OPEN: _SEQUENCE,
    Operation.CLOSE: _SEQUENCE,
    Operation.RESET: _SEQUENCE,
    Operation.STEP: _BOTH,
    Operation.SET_HEAD: _LAYER,
    Operation.SET_GAIN: _LAYER,
    Operation.SET_LAYER: _LAYER,
    Operation.SET_TIMEOUT: _NONE,
    Operation.COUNTERS: _NONE,
    Operation.SLOTS: _BOTH,
    Operation.STATE: _BOTH,
}
_WORDS = {
    Operation.OPEN: (
        *("policy, layers or normalised", "budget", "sinks", "recent", "stride", "share", "seed"),
        *("gate active", "gate mass", "gate probe"),
    ),
    Operation.STEP: ("count", "flags", "no attend"),
    Operation.SET_HEAD: ("head", "THETA", "MODE", "KAPPA", "MIN_ACTIVE", "MIN_MASS", "ALPHA", "SINK"),
    Operation.SET_GAIN: ("head or element",),
    Operation.SET_LAYER: ("mask", "normaliser", "head dimension"),
    Operation.SET_TIMEOUT: ("bits",),
    Operation.COUNTERS: ("clear",),
    Operation.SLOTS: ("KV head", "first slot", "count"),
}


def _wrong(operation: Operation, detail: int, words: Sequence[int]) -> str:
    """In brackets, the word that was wrong."""
    if not 0 < detail <= len(words):
        return ""
    names = _WORDS.get(operation, ())
    name = names[detail - 1] if detail <= len(names) else f"word {detail}"
    return f" ({name} is {words[detail - 1]:#x})"


class BadOperationError(CommandError):
    """The firmware knows no such command."""

    status, reason = Status.BAD_OPERATION, "the firmware does not know this command"


class BadLengthError(CommandError):
    """The command had too few or too many words."""

    status, reason = Status.BAD_LENGTH, "the command has the wrong number of words"


class BadSequenceError(CommandError):
    """The system has no sequence of this number."""

    status, reason = Status.BAD_SEQUENCE, "there is no such sequence"


class ClosedError(CommandError):
    """The sequence is not open."""

    status, reason = Status.CLOSED, "the sequence is not open"


class AlreadyOpenError(CommandError):
    """The sequence is open."""

    status, reason = Status.ALREADY_OPEN, "the sequence is open already"


class BadLayerError(CommandError):
    """The sequence, or the system, has no such layer."""

    status, reason = Status.BAD_LAYER, "there is no such layer"


class BadHeadError(CommandError):
    """The unit has no such head or element."""

    status, reason = Status.BAD_HEAD, "there is no such head or element"


class BadValueError(CommandError):
    """A value is out of range, or contradicts another."""

    status, reason = Status.BAD_VALUE, "a value is out of range or contradicts another"


class BadPolicyError(CommandError):
    """The firmware knows no such policy."""

    status, reason = Status.BAD_POLICY, "there is no such policy"


class NoSpaceError(CommandError):
    """No run of free slots is long enough."""

    status, reason = Status.NO_SPACE, "no run of free slots is long enough for its layers"


class FullError(CommandError):
    """The policy refuses more rows than the budget, or the position cannot be counted any further."""

    status, reason = Status.FULL, "the region is full, and its policy evicts nothing"


class BadPacketError(CommandError):
    """A packet was too short or too long; its step did not happen."""

    status, reason = Status.BAD_PACKET, "a packet was too short or too long: its step did not happen"


class StepTimeoutError(CommandError):
    """A packet did not come in time; its step did not happen."""

    status, reason = Status.TIMEOUT, "a packet did not come in time: its step did not happen"


class FaultError(CommandError):
    """The firmware trapped or hung while it worked on this command; the sequence is damaged."""

    status, reason = Status.FAULT, "the firmware failed while it worked on this; the sequence is damaged"


class DamagedError(CommandError):
    """The sequence lost its thread after an error: reset or close it."""

    status, reason = Status.DAMAGED, "the sequence is damaged by an error before: reset or close it"


class AbortedError(CommandError):
    """The host restarted the scheduler before the command was over; the sequence is damaged."""

    status, reason = Status.ABORTED, "the scheduler was restarted before this was over; the sequence is damaged"


class UnsupportedError(CommandError):
    """The unit was built without it."""

    status, reason = Status.UNSUPPORTED, "the unit was built without this"


_TYPES = {kind.status: kind for kind in CommandError.__subclasses__()}


def command_error(status: Status, *arguments, **named) -> CommandError:
    """The error of a status other than OK; further arguments as for :class:`CommandError`."""
    return _TYPES[status](*arguments, **named)
