"""The top of a board's FPGA: clocks, reset until they run, and the pins of a linked system."""

import math

from amaranth.hdl import ClockDomain, ClockSignal, Const, DomainRenamer, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .pll import Pll

__all__ = ["BoardTop", "HeldReset"]

QUIET_SECONDS = 20e-6
"""iCE40's block RAMs cannot be read in the first 15 us or so after configuration; other chips do not mind."""


class HeldReset(wiring.Component):
    """Reset of one clock domain: high until ``locked`` has been high for ``cycles``, and again when it falls.

    Attributes
    ----------
    locked
        Asynchronous.
    rst
        Of the domain ``sync``, whose own reset this component does not use.
    """

    locked: In(1)
    rst: Out(1, init=1)

    def __init__(self, cycles: int):
        self.cycles = cycles
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        first = Signal()
        second = Signal()
        left = Signal(range(self.cycles + 1), init=self.cycles)
        m.d.sync += [first.eq(self.locked), second.eq(first), self.rst.eq(~second | (left != 0))]
        with m.If(~second):
            m.d.sync += left.eq(self.cycles)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return m


class BoardTop(wiring.Component):
    """PLL, resets, and an instance of module ``system`` with ports clk, rst, rx, tx, led (and unit_clk, unit_rst).

    Attributes
    ----------
    clock
        The board's clock.
    rx, tx
        Serial port.
    led
        As the pin wants it: inverted where ``led_inverted``.
    """

    clock: In(1)
    rx: In(1)
    tx: Out(1)
    led: Out(1)

    def __init__(self, pll: Pll, *, system: str, led_inverted: bool):
        self.pll, self.system, self.led_inverted = pll, system, led_inverted
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        lit = Signal()
        locked = Signal()
        m.domains.sync = ClockDomain(reset_less=True)
        ports = {"i_rx": self.rx, "o_tx": self.tx, "o_led": lit}
        ports |= self._domain(m, "sync", "", self.pll.mhz, locked)
        if self.pll.unit_mhz is not None:
            m.domains.unit = ClockDomain(reset_less=True)
            ports |= self._domain(m, "unit", "unit_", self.pll.unit_mhz, locked)
        m.submodules.system = Instance(self.system, **ports)
        m.d.comb += self.led.eq(lit ^ self.led_inverted)
        if self.pll.cell:
            m.submodules.pll = self._pll_instance(m, locked)
        else:
            m.d.comb += [ClockSignal().eq(self.clock), locked.eq(1)]
        return m

    def _domain(self, m: Module, domain: str, prefix: str, mhz: float, locked: Signal) -> dict:
        """The reset of a domain, and the system's ports for it."""
        held = HeldReset(math.ceil(QUIET_SECONDS * mhz * 1e6))
        m.submodules[f"{prefix}reset"] = DomainRenamer(domain)(held)
        m.d.comb += held.locked.eq(locked)
        return {f"i_{prefix}clk": ClockSignal(domain), f"i_{prefix}rst": held.rst}

    def _pll_instance(self, m: Module, locked: Signal) -> Instance:
        pll = self.pll
        ports = {f"i_{pll.input}": self.clock, f"o_{pll.locked}": locked, f"o_{pll.output}": ClockSignal()}
        if pll.unit_output:
            ports[f"o_{pll.unit_output}"] = ClockSignal("unit")
        ports |= {f"i_{name}": Const(0, width) for name, width in pll.low.items()}
        ports |= {f"i_{name}": Const(1) for name in pll.high}
        if pll.feedback is not None:
            output, back = pll.feedback
            ports[f"o_{output}"] = ports[f"i_{back}"] = Signal(name="pll_feedback")
        parameters = {f"p_{name}": value for name, value in pll.parameters.items()}
        attributes = {f"a_{name}": value for name, value in pll.attributes.items()}
        return Instance(pll.cell, **parameters, **attributes, **ports)
