"""Heads that do little are turned off for a while: the settings, and the running averages of a region.

``docs/policies.md`` is the specification. Only numpy is needed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["GatingSettings", "HeadGate"]

MASS_LIMIT = (1 << 32) - 1
"""The mass of a head is saturated to this before it is averaged."""
MASS_SHIFT = 4
"""Low bits of the mass that are not averaged."""
AVERAGE_SHIFT = 2
"""An average forgets a quarter of itself in each step, and is kept as four times its value."""


@dataclass(frozen=True, kw_only=True)
class GatingSettings:
    """When a head is turned off, and for how long.

    Attributes
    ----------
    active
        Least average active count of a head that stays on: 0 to 65,535; 0 turns none off.
    mass
        Least average mass of a head that stays on: 0 to 2**31 - 1, its low 4 bits are ignored; 0 turns none off.
    probe
        A head that was turned off runs again in the ``probe``-th step after: 1 to 255; 1 turns none off.

    Raises
    ------
    ValueError
        If a value is out of range; the message names the field, the value and what is allowed.
    """

    active: int = 0
    mass: int = 0
    probe: int = 16

    def __post_init__(self):
        for field, low, high in (("active", 0, (1 << 16) - 1), ("mass", 0, (1 << 31) - 1), ("probe", 1, 255)):
            value = getattr(self, field)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"gate {field} is {value!r}: {low} to {high} is allowed")


class HeadGate:
    """The averages of one region's heads.

    Attributes
    ----------
    off
        (heads,) bool: heads that do not run in the next step, because of their averages.
    active, mass
        (heads,) int64: four times the running averages of the active count and of the mass (without its low 4 bits).
    """

    def __init__(self, settings: GatingSettings, mask: Sequence[bool]):
        """``mask``: per head, True where the head never runs."""
        self.settings = settings
        self.active, self.mass = np.zeros((2, len(mask)), dtype=np.int64)
        self._mask = np.array(mask, dtype=bool)
        self._known = np.zeros(len(mask), dtype=bool)
        self._steps_off = np.zeros(len(mask), dtype=np.int64)

    @property
    def off(self) -> np.ndarray:
        return self._steps_off > 0

    def observe(self, active: ArrayLike, mass: ArrayLike) -> None:
        """End a step; ``active`` and ``mass`` (heads,) are looked at where the head ran in it."""
        ran = ~self._mask & ~self.off
        mass = np.minimum(np.asarray(mass, dtype=np.int64), MASS_LIMIT) >> MASS_SHIFT
        self.active = self._average(self.active, np.asarray(active, dtype=np.int64), ran)
        self.mass = self._average(self.mass, mass, ran)
        self._known |= ran
        low = (self.active < self.settings.active << AVERAGE_SHIFT) | (
            self.mass < self.settings.mass >> MASS_SHIFT << AVERAGE_SHIFT
        )
        waited = np.maximum(self._steps_off - 1, 0)
        self._steps_off = np.where(ran & low, self.settings.probe - 1, waited)

    def _average(self, average: np.ndarray, value: np.ndarray, ran: np.ndarray) -> np.ndarray:
        later = average + value - (average >> AVERAGE_SHIFT)
        return np.where(ran, np.where(self._known, later, value << AVERAGE_SHIFT), average)
