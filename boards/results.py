"""What a unit and a system answer: the bytes of a result packet as arrays, and where a token went."""

from dataclasses import dataclass

import numpy as np

from reluctant.hdl.config import UnitConfig

__all__ = [
    "Answer",
    "MalformedAnswerError",
    "PrefillResult",
    "RegionState",
    "SlotContents",
    "StepResult",
    "SystemInfo",
    "answer_bytes",
    "decode_answer",
]

FLAGS = ("masked", "null", "softmax", "fallback")
HEADER_BYTES = 16


class MalformedAnswerError(ValueError):
    """A result packet that is not what ``docs/design.md`` says."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What the unit answered to a step that attends, head by head.

    Attributes
    ----------
    masked, null, softmax, fallback
        (heads,) bool.
    exponent, active, mass, weight_sum
        (heads,) int64.
    context
        (heads, head_dim) int32, or None when they were not sent.
    output
        (heads, head_dim) int8, or None when the normaliser is ``none``.
    """

    masked: np.ndarray
    null: np.ndarray
    softmax: np.ndarray
    fallback: np.ndarray
    exponent: np.ndarray
    active: np.ndarray
    mass: np.ndarray
    weight_sum: np.ndarray
    context: np.ndarray | None
    output: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class _Placement:
    """Where a token went.

    Attributes
    ----------
    n
        Rows kept, and attended, per KV head.
    position
        The token's, in its sequence.
    slots
        (kv_heads,) int64: slot of the region that each KV head's row went to.
    off
        (heads,) bool: heads that did not run because of their averages (gating).
    """

    n: int
    position: int
    slots: np.ndarray
    off: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class StepResult(_Placement):
    """What became of one token in one layer; ``heads`` is None when it was only appended."""

    heads: Answer | None


@dataclass(frozen=True, kw_only=True, eq=False)
class PrefillResult(_Placement):
    """What became of many tokens: where the last went, and the answer to each; none when they were only appended."""

    answers: tuple[Answer, ...]


@dataclass(frozen=True, eq=False)
class SlotContents:
    """What the unit knows of the rows of a region, (rows,) int64 each, in slot order."""

    mass: np.ndarray
    position: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionState:
    """A layer of a sequence.

    Attributes
    ----------
    rows, position
        Rows kept per KV head, and the position of the next token.
    first_slot
        In the store.
    off
        (heads,) bool: heads that are off by gating.
    damaged
        The sequence must be reset or closed.
    """

    rows: int
    position: int
    first_slot: int
    off: np.ndarray
    damaged: bool


@dataclass(frozen=True, kw_only=True)
class SystemInfo:
    """Numbers of the open sequences, free slots, longest run of them, restarts of the core since its cold start."""

    open: tuple[int, ...]
    slots_free: int
    longest_run: int
    restarts: int


def answer_bytes(lanes: int, head_dim: int, *, contexts: bool, outputs: bool) -> int:
    """Bytes of each head's part of a result packet."""
    return -(-HEADER_BYTES // lanes) * lanes + head_dim * (4 * contexts + outputs)


def decode_answer(config: UnitConfig, packet: bytes, head_dim: int, *, contexts: bool, outputs: bool) -> Answer:
    """The arrays of a result packet.

    Parameters
    ----------
    head_dim
        Of the step.
    contexts, outputs
        What the step was to send.

    Raises
    ------
    MalformedAnswerError
        If its length, or a fixed part of a header, is not as the format says.
    """
    size = answer_bytes(config.lanes, head_dim, contexts=contexts, outputs=outputs)
    header = config.sizes.header_beats * config.lanes
    if len(packet) != config.heads * size:
        raise MalformedAnswerError(f"a step was answered with {len(packet)} bytes, not {config.heads * size}")
    heads = np.frombuffer(packet, np.uint8).reshape(config.heads, size)
    fixed = heads[:, 0].tolist() != list(range(config.heads)) or heads[:, 3].any() or heads[:, 16:header].any()
    if fixed or (heads[:, 1] >> len(FLAGS)).any():
        raise MalformedAnswerError(f"the headers of a step's answer are malformed: {heads[:, :header].tolist()}")
    body, split = heads[:, header:], 4 * head_dim if contexts else 0
    return Answer(
        **{flag: (heads[:, 1] >> bit & 1).astype(bool) for bit, flag in enumerate(FLAGS)},
        exponent=heads[:, 2].astype(np.int64),
        active=_integers(heads[:, 4:8]),
        mass=_integers(heads[:, 8:13]),
        weight_sum=_integers(heads[:, 13:16]),
        context=np.ascontiguousarray(body[:, :split]).view("<i4") if contexts else None,
        output=np.ascontiguousarray(body[:, split:]).view(np.int8) if outputs else None,
    )


def _integers(data: np.ndarray) -> np.ndarray:
    """Little-endian unsigned integers in the rows of ``data``, at most 7 bytes."""
    return (data.astype(np.int64) << (8 * np.arange(data.shape[1]))).sum(axis=1)
