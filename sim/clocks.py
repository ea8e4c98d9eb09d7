"""The clocks of a simulation."""

import os
from typing import NamedTuple, Self

__all__ = ["Clocks"]

VARIABLE = "RELUCTANT_CLOCKS"


class Clocks(NamedTuple):
    """Half periods, in simulation steps, of ``clk`` and ``unit_clk``, and how much later the second one starts.

    ``Clocks(13, 7)`` gives the unit 13 cycles while all else has 7. The second clock matters only to a device whose
    unit has a clock of its own.
    """

    half: int = 1
    unit_half: int = 1
    shift: int = 0

    def check(self) -> Self:
        """These clocks; raises ValueError if there are no such clocks."""
        if self.half < 1 or self.unit_half < 1 or self.shift < 0:
            raise ValueError(f"{self!r}: half periods are 1 or more steps, shift is 0 or more")
        return self

    def environment(self) -> dict[str, str]:
        """What tells the simulator's process."""
        return {VARIABLE: " ".join(map(str, self))}

    @classmethod
    def from_environment(cls) -> Self:
        """In the simulator's process: its clocks; the usual ones if it was not told."""
        return cls(*map(int, os.environ.get(VARIABLE, "").split()))

    @staticmethod
    def given() -> bool:
        """In the simulator's process: it was told."""
        return VARIABLE in os.environ
