"""Accesses to registers, as operations of the serial link."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from reluctant.hdl.link_protocol import MOVING_BITS, OPERATION_BYTES, Code

from .link_session import operation
from .transport import Access

__all__ = ["Outcome", "Run", "programs", "read_outcome"]

WORD_BYTES = 4
LONGEST_RUN = 256
HIGHEST_WORD = 0xFFFF


@dataclass
class Run:
    """Accesses of one kind to a register, or to registers that follow each other: one READ or WRITE."""

    writes: bool
    address: int
    words: list[int | None] = field(default_factory=list)
    step: int | None = None
    """Words from each address to the next: 0 or 1; None while there is only one access."""

    def takes(self, access: Access) -> bool:
        """Whether the access may follow those that are here."""
        step = (access.address >> 2) - self.address if self.step is None else self.step
        return (
            (access.word is not None) == self.writes
            and len(self.words) < LONGEST_RUN
            and step in (0, 1)
            and access.address >> 2 == self.address + step * len(self.words)
            and access.address >> 2 >> MOVING_BITS == self.address >> MOVING_BITS
        )

    def add(self, access: Access) -> None:
        """Add an access that it takes."""
        if self.words and self.step is None:
            self.step = (access.address >> 2) - self.address
        self.words.append(access.word)

    def encode(self) -> bytes:
        """The operation."""
        data = struct.pack(f"<{len(self.words)}I", *self.words) if self.writes else b""
        code = Code.WRITE if self.writes else Code.READ
        return operation(code, len(self.words), self.address, mark=self.step == 0, data=data)


class Outcome(NamedTuple):
    """What a program's accesses gave.

    Attributes
    ----------
    words
        Of the reads.
    refused
        Index of the first access that was refused; None if none was.
    whole
        Whether all were done.
    rest
        What the operations behind them gave.
    """

    words: list[int]
    refused: int | None
    whole: bool
    rest: bytes


def programs(accesses: Sequence[Access], room: int) -> Iterator[list[Run]]:
    """Runs that fit into a request and its reply, of ``room`` bytes each, one list after the other.

    Raises
    ------
    ValueError
        If an address has more than 18 bits.
    """
    made: list[Run] = []
    asked = given = 0
    for access in accesses:
        if not 0 <= access.address >> 2 <= HIGHEST_WORD:
            raise ValueError(f"the address is {access.address:#x}: at most {4 * HIGHEST_WORD + 3:#x} is possible")
        fits = bool(made) and made[-1].takes(access)
        more = (0 if access.word is None else WORD_BYTES) + (0 if fits else OPERATION_BYTES)
        back = WORD_BYTES if access.word is None else 1
        if made and (asked + more > room or given + back > room):
            yield made
            made, fits, asked, given = [], False, 0, 0
            more = (0 if access.word is None else WORD_BYTES) + OPERATION_BYTES
        if not fits:
            made.append(Run(access.word is not None, access.address >> 2))
        made[-1].add(access)
        asked, given = asked + more, given + back
    if made:
        yield made


def read_outcome(made: Sequence[Run], body: bytes) -> Outcome:
    """What the body of a reply says of the accesses of a program.

    A refused read gives nothing and ends the program, as does a read behind a refused write.
    """
    words: list[int] = []
    refused, done = None, 0
    for run in made:
        count = len(run.words)
        if run.writes:
            states, body = body[:count], body[count:]
            if refused is None and any(states):
                refused = done + states.index(1)
            if len(states) < count:
                return Outcome(words, refused, False, b"")
        elif refused is not None:
            return Outcome(words, refused, False, b"")
        else:
            got = min(count, len(body) // WORD_BYTES)
            words += struct.unpack_from(f"<{got}I", body)
            body = body[WORD_BYTES * got :]
            if got < count:
                return Outcome(words, done + got, False, b"")
        done += count
    return Outcome(words, refused, True, body)
