"""Tells when the firmware has given no sign of life for too long."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Watchdog"]


class Watchdog(wiring.Component):
    """Bites after ``cycles`` cycles of work without a kick, and again after as many more.

    Parameters
    ----------
    cycles
        At least 1.

    Members
    -------
    working : In(1)
        Low: no time passes, and the watchdog is wound up.
    kick : In(1)
        Winds it up.
    bite : Out(1)
        One cycle: the last of ``cycles`` cycles on end in which ``working`` was high and ``kick`` low has passed.
    """

    def __init__(self, cycles: int):
        if cycles < 1:
            raise ValueError(f"cycles is {cycles!r}: at least 1 is needed")
        self.cycles = cycles
        super().__init__({"working": In(1), "kick": In(1), "bite": Out(1)})

    def elaborate(self, platform):
        m = Module()
        left = Signal(range(self.cycles), init=self.cycles - 1)
        m.d.sync += self.bite.eq(0)
        with m.If(self.kick | ~self.working):
            m.d.sync += left.eq(self.cycles - 1)
        with m.Elif(left == 0):
            m.d.sync += [left.eq(self.cycles - 1), self.bite.eq(1)]
        with m.Else():
            m.d.sync += left.eq(left - 1)
        return m
