"""What a board says about its serial host link."""

from dataclasses import dataclass
from fractions import Fraction

from .config import require

__all__ = ["NAME_BYTES", "LinkConfig"]

NAME_BYTES = 20
"""Longest name of a build, as the link tells it to the host."""
STEPS = 16
"""Parts of a clock cycle in which the length of a bit is kept where whole cycles are too coarse."""
COARSE = Fraction(1, 100)
"""Error of the bit rate up to which whole cycles are taken."""
WORST = Fraction(15, 1000)
"""Error of the bit rate that is allowed."""
LEAST_CLOCKS, MOST_CLOCKS = 4, 1 << 16
"""Clock cycles that a bit may last."""


@dataclass(frozen=True)
class LinkConfig:
    """A serial line of 8 data bits, no parity, one stop bit.

    Attributes
    ----------
    name
        Of the build, for the host to read: 1 to 20 printable ASCII characters.
    clock_hz
        Frequency of the system's clock.
    baud
        Bits a second: a bit must last 4 to 65,536 clock cycles.
    buffer
        Bytes of the longest frame, in each direction: a power of two, 256 to 4,096. The link's memory has twice as
        many.
    """

    name: str
    clock_hz: int
    baud: int
    buffer: int = 512

    def __post_init__(self):
        for field in ("clock_hz", "baud", "buffer"):
            value = getattr(self, field)
            require(type(value) is int and value > 0, field, value, "a positive integer is needed")
        text = isinstance(self.name, str) and self.name.isascii() and self.name.isprintable()
        require(
            text and 1 <= len(self.name) <= NAME_BYTES,
            "name",
            self.name,
            f"1 to {NAME_BYTES} printable ASCII characters are allowed",
        )
        power = self.buffer & (self.buffer - 1) == 0
        require(
            power and 256 <= self.buffer <= 4096, "buffer", self.buffer, "a power of two from 256 to 4096 is allowed"
        )
        require(self.clock_hz < 1 << 32, "clock_hz", self.clock_hz, "less than 2**32 is allowed")
        low, high = -(-self.clock_hz // MOST_CLOCKS), self.clock_hz // LEAST_CLOCKS
        where = f"{low} to {high} is allowed with a clock of {self.clock_hz} Hz"
        require(LEAST_CLOCKS * self.baud <= self.clock_hz <= MOST_CLOCKS * self.baud, "baud", self.baud, where)
        require(self.error <= WORST, "baud", self.baud, f"at most {float(WORST):.1%} off is allowed")

    @property
    def bit_steps(self) -> int:
        """Length of a bit in sixteenths of a clock cycle: whole cycles where that is good enough."""
        exact = Fraction(self.clock_hz, self.baud)
        whole = round(exact)
        return whole * STEPS if abs(whole - exact) <= COARSE * exact else round(exact * STEPS)

    @property
    def error(self) -> Fraction:
        """How far the bit rate is off, as a part of it."""
        exact = Fraction(self.clock_hz, self.baud)
        return abs(Fraction(self.bit_steps, STEPS) - exact) / exact
