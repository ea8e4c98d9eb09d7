"""AXI4-Lite slave, and the simple bus behind it."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["WORD_SHIFT", "AxiLiteSignature", "AxiLiteSlave", "RegisterBus"]

OKAY, SLVERR = 0b00, 0b10
WORD_SHIFT = 2
"""Byte address to word address."""


class AxiLiteSignature(wiring.Signature):
    """AXI4-Lite with 32-bit data, as its master sees it; ``addr_width`` bits of byte address."""

    def __init__(self, addr_width: int):
        self.addr_width = addr_width
        super().__init__(
            {
                "awaddr": Out(addr_width),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(32),
                "wstrb": Out(4),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(addr_width),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(32),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class RegisterBus(wiring.Signature):
    """One read or write at a time, as the side that asks sees it; ``addr_width`` bits of word address.

    ``request`` is high, and ``write``, ``addr`` and (writes only) ``data``, ``strobe`` hold, up to and including the
    cycle in which ``done`` is high; in the cycle after it ``request`` is low. ``error`` and ``read_data`` belong to
    ``done``.
    """

    def __init__(self, addr_width: int):
        self.addr_width = addr_width
        super().__init__(
            {
                "request": Out(1),
                "write": Out(1),
                "addr": Out(addr_width),
                "data": Out(32),
                "strobe": Out(4),
                "done": In(1),
                "error": In(1),
                "read_data": In(32),
            }
        )


class AxiLiteSlave(wiring.Component):
    """Serialises AXI4-Lite reads and writes onto a :class:`RegisterBus`.

    AW and W are taken in any order, one transfer each; the next of either is taken when the write they belong to is
    done. A write starts when both are there and the response before was taken; a read starts when the read data before
    was taken. Where both could start, the kind that did not go last goes. So neither kind waits for the master to take
    the other's response, and both make progress. ``bvalid``, ``rvalid`` and what belongs to them hold until taken. A
    bus error answers SLVERR, else OKAY. ``awprot``, ``arprot`` and the low two bits of addresses are ignored.

    2 cycles from the last of AW and W (1 from AR) to ``bus.request``, 1 from ``bus.done`` to the response.

    Parameters
    ----------
    addr_width
        Bits of a byte address, at least 3.

    Members
    -------
    axi : In(AxiLiteSignature(addr_width))
    bus : Out(RegisterBus(addr_width - 2))
        ``read_data`` must hold from a read's ``done`` until the next read is requested.
    """

    def __init__(self, addr_width: int):
        if addr_width < WORD_SHIFT + 1:
            raise ValueError(f"addr_width is {addr_width!r}: at least {WORD_SHIFT + 1} is needed")
        self.addr_width = addr_width
        super().__init__({"axi": In(AxiLiteSignature(addr_width)), "bus": Out(RegisterBus(addr_width - WORD_SHIFT))})

    def elaborate(self, platform):
        m = Module()
        axi, bus = self.axi, self.bus
        awready, wready, arready = Signal(init=1), Signal(init=1), Signal()
        bvalid, rvalid, bad_write, bad_read = Signal(), Signal(), Signal(), Signal()
        request, write = Signal(), Signal()
        write_addr, addr = Signal.like(bus.addr, reset_less=True), Signal.like(bus.addr, reset_less=True)
        data, strobe = Signal(32, reset_less=True), Signal(4, reset_less=True)
        m.d.comb += [
            axi.awready.eq(awready),
            axi.wready.eq(wready),
            axi.arready.eq(arready),
            axi.bvalid.eq(bvalid),
            axi.bresp[1].eq(bad_write),
            axi.rvalid.eq(rvalid),
            axi.rresp[1].eq(bad_read),
            axi.rdata.eq(bus.read_data),
            bus.request.eq(request),
            bus.write.eq(write),
            bus.addr.eq(addr),
            bus.data.eq(data),
            bus.strobe.eq(strobe),
        ]
        with m.If(axi.awvalid & awready):
            m.d.sync += [awready.eq(0), write_addr.eq(axi.awaddr[WORD_SHIFT:])]
        with m.If(axi.wvalid & wready):
            m.d.sync += [wready.eq(0), data.eq(axi.wdata), strobe.eq(axi.wstrb)]
        with m.If(axi.bready):
            m.d.sync += bvalid.eq(0)
        with m.If(axi.rready):
            m.d.sync += rvalid.eq(0)

        can_write, can_read = Signal(), Signal()
        m.d.comb += [can_write.eq(~awready & ~wready & ~bvalid), can_read.eq(axi.arvalid & ~rvalid)]
        m.d.sync += arready.eq(0)
        with m.If(request), m.If(bus.done):
            m.d.sync += request.eq(0)
            with m.If(write):
                m.d.sync += [bvalid.eq(1), bad_write.eq(bus.error), awready.eq(1), wready.eq(1)]
            with m.Else():
                m.d.sync += [rvalid.eq(1), bad_read.eq(bus.error)]
        with m.Elif(can_write & (~can_read | ~write)):
            m.d.sync += [request.eq(1), write.eq(1), addr.eq(write_addr)]
        with m.Elif(can_read):
            m.d.sync += [request.eq(1), write.eq(0), addr.eq(axi.araddr[WORD_SHIFT:]), arready.eq(1)]
        return m
