"""From the core's bus to the unit's registers."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi_lite import RegisterBus
from .core_bus import SlaveBus, by_fours

__all__ = ["UnitBridge"]


class UnitBridge(wiring.Component):
    """Makes each transfer of the core an access to the unit, which begins a cycle later and ends it.

    An address beyond the unit's, and an access that the unit refuses, is an error. A transfer that begins in the cycle
    that ends another does not reach the unit: it can only be the fetch of an instruction, and these are not taken from
    here. The core holds what it writes: it must not be reset while ``bus.ready`` is low.

    Parameters
    ----------
    addr_width
        Bits of the unit's word addresses.

    Members
    -------
    bus : In(SlaveBus())
    unit : Out(RegisterBus(addr_width))
    """

    def __init__(self, addr_width: int):
        self.addr_width = addr_width
        super().__init__({"bus": In(SlaveBus()), "unit": Out(RegisterBus(addr_width))})

    def elaborate(self, platform):
        m = Module()
        bus, unit = self.bus, self.unit
        # bits 28 and 29 of the word address told that the transfer is for the unit
        beyond = by_fours(bus.addr[self.addr_width : 28])
        outside, access, refused = Signal.like(beyond), Signal(), Signal()
        m.d.comb += [
            refused.eq(access & outside.any()),
            unit.request.eq(access & ~outside.any()),
            bus.ready.eq(~access | unit.done | refused),
            bus.error.eq(refused | unit.error),
            bus.word.eq(unit.read_data),
        ]
        with m.If(bus.ready):
            m.d.sync += access.eq(bus.request & ~access)
        m.d.comb += [unit.data.eq(bus.data), unit.strobe.eq(bus.strobe)]
        with m.If(bus.request & ~access):
            m.d.sync += [outside.eq(beyond), unit.addr.eq(bus.addr), unit.write.eq(bus.write)]
        return m
