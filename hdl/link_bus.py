"""AXI4-Lite accesses of the serial link, one at a time."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi_lite import WORD_SHIFT, AxiLiteSignature

__all__ = ["LinkBus"]


class LinkBus(wiring.Component):
    """An AXI4-Lite master that can give up an access, which then ends by itself when its response comes.

    Parameters
    ----------
    addr_width
        Bits of a byte address.

    Members
    -------
    start : In(1), write : In(1)
        One cycle while ``busy`` is low: an access.
    addr : In(addr_width - 2), data : In(32)
        Word address, and what to write; must hold while ``busy``.
    busy : Out(1)
        An access is under way.
    answered : Out(1), refused : Out(1), read_data : Out(32)
        Its response is there; it holds until taken.
    take : In(1)
        One cycle while ``answered``: the access is over.
    give_up : In(1)
        One cycle while ``busy``.
    axi : Out(AxiLiteSignature(addr_width))
    """

    def __init__(self, addr_width: int):
        super().__init__(
            {
                **dict.fromkeys(("start", "write", "take", "give_up"), In(1)),
                **dict.fromkeys(("busy", "answered", "refused"), Out(1)),
                "addr": In(addr_width - WORD_SHIFT),
                "data": In(32),
                "read_data": Out(32),
                "axi": Out(AxiLiteSignature(addr_width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axi = self.axi
        awvalid, wvalid, arvalid, busy, unwanted, over = (
            Signal(name=f"{name}_now") for name in ("awvalid", "wvalid", "arvalid", "busy", "unwanted", "over")
        )
        m.d.comb += [
            axi.awvalid.eq(awvalid),
            axi.wvalid.eq(wvalid),
            axi.arvalid.eq(arvalid),
            axi.awaddr[WORD_SHIFT:].eq(self.addr),
            axi.araddr[WORD_SHIFT:].eq(self.addr),
            axi.wdata.eq(self.data),
            axi.wstrb.eq(0b1111),
            axi.bready.eq(over),
            axi.rready.eq(over),
            self.busy.eq(busy),
            self.answered.eq(axi.bvalid | axi.rvalid),
            self.refused.eq((axi.bvalid & axi.bresp[1]) | (axi.rvalid & axi.rresp[1])),
            self.read_data.eq(axi.rdata),
            over.eq(self.answered & (self.take | unwanted)),
        ]
        with m.If(axi.awready):
            m.d.sync += awvalid.eq(0)
        with m.If(axi.wready):
            m.d.sync += wvalid.eq(0)
        with m.If(axi.arready):
            m.d.sync += arvalid.eq(0)
        with m.If(self.give_up):
            m.d.sync += unwanted.eq(1)
        with m.If(self.start):
            m.d.sync += [busy.eq(1), unwanted.eq(0), awvalid.eq(self.write), wvalid.eq(self.write)]
            m.d.sync += arvalid.eq(~self.write)
        with m.If(over):
            m.d.sync += busy.eq(0)
        return m
