"""From the core's bus to the unit's registers."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi_lite import RegisterBus
from .core_bus import CoreBus

__all__ = ["UnitBridge"]

HELD = ("write", "addr", "data", "strobe")
"""What describes an access, the same on both sides."""


class UnitBridge(wiring.Component):
    """Makes each transfer of the core an access to the unit, with one wait state more than the unit needs.

    An address beyond the unit's, and an access that the unit refuses, is an error. When the core is reset, an access
    under way goes on to its end and its answer is dropped; the core's next one waits for that.

    Parameters
    ----------
    addr_width
        Bits of the unit's word addresses.
    held
        Keep the access in registers. Without, to save their area, an access under way when the core is reset may lose
        its effect.

    Members
    -------
    bus : In(CoreBus())
    reset : In(1)
        The core is reset at the end of this cycle.
    unit : Out(RegisterBus(addr_width))
    """

    def __init__(self, addr_width: int, held: bool = True):
        self.addr_width, self.held = addr_width, held
        super().__init__({"bus": In(CoreBus()), "reset": In(1), "unit": Out(RegisterBus(addr_width))})

    def _direct(self) -> Module:
        """No registers but those of the state: the core holds what describes its access."""
        m = Module()
        bus, unit = self.bus, self.unit
        abandoned = Signal()
        m.d.comb += [getattr(unit, name).eq(getattr(bus, name)) for name in HELD]
        m.d.comb += [unit.write.eq(bus.write & ~abandoned), bus.read_data.eq(unit.read_data)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += abandoned.eq(self.reset)
                with m.If(bus.request):
                    m.next = "ACCESS"
                    with m.If(bus.addr[self.addr_width : 28].any()):
                        m.next = "REFUSE"
            with m.State("ACCESS"):
                m.d.comb += [unit.request.eq(1), bus.ready.eq(unit.done & ~abandoned), bus.error.eq(unit.error)]
                with m.If(self.reset):
                    m.d.sync += abandoned.eq(1)
                with m.If(unit.done):
                    m.next = "IDLE"
            with m.State("REFUSE"):
                m.d.comb += [bus.ready.eq(~abandoned), bus.error.eq(1)]
                m.next = "IDLE"
        return m

    def elaborate(self, platform):
        if not self.held:
            return self._direct()
        m = Module()
        bus, unit = self.bus, self.unit
        abandoned = Signal()
        held = {name: Signal.like(getattr(unit, name), name=f"held_{name}", reset_less=True) for name in HELD}
        for name, value in held.items():
            m.d.comb += getattr(unit, name).eq(value)
        result = Signal(32, reset_less=True)
        m.d.comb += bus.read_data.eq(result)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += abandoned.eq(self.reset)
                for name, value in held.items():
                    m.d.sync += value.eq(getattr(bus, name))
                with m.If(bus.request):
                    # bits 28 and 29 of the word address told that the transfer is for the unit
                    with m.If(bus.addr[self.addr_width : 28].any()):
                        m.next = "REFUSE"
                    with m.Else():
                        m.next = "ACCESS"
            with m.State("ACCESS"):
                m.d.comb += [
                    unit.request.eq(1),
                    bus.ready.eq(unit.done & ~abandoned),
                    bus.error.eq(unit.error),
                ]
                with m.If(self.reset):
                    m.d.sync += abandoned.eq(1)
                with m.If(unit.done):
                    m.d.sync += result.eq(unit.read_data)
                    m.next = "IDLE"
            with m.State("REFUSE"):
                m.d.comb += [bus.ready.eq(~abandoned), bus.error.eq(1)]
                m.next = "IDLE"
        return m
