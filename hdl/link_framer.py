"""Frames on a serial line: stuffing and CRC, one direction at a time."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .link_crc import LinkCrc
from .link_protocol import CRC_BYTES, ESCAPE, ESCAPED, FLAG

__all__ = ["LinkFramer"]


class LinkFramer(wiring.Component):
    """Receives frames into the link's buffer, sends them from there.

    A frame counts once its closing FLAG came and its CRC is right; anything else is dropped in silence. That FLAG may
    open the next frame, so no pause is needed after a frame that broke off.

    Members
    -------
    listen : In(1)
        Receive. What comes while it is low is lost, and a frame is received from its opening FLAG or not at all.
    received : Out(1)
        One cycle: a frame is in the buffer.
    send : In(1)
        One cycle, while ``listen`` is low: send what the buffer reads, up to its end. ``sent`` (one cycle) says that
        the last byte is under way.
    rx_valid : In(1), rx_data : In(8)
        Bytes of the line, 11 cycles or more apart.
    o : Out(stream(8))
        Bytes for the line.
    receive, put, take : Out(1), data : Out(8), read : In(8), settled, at_end, full : In(1)
        To the buffer: see :class:`LinkBuffer`. ``data`` is the byte to put.
    """

    def __init__(self):
        super().__init__(
            {
                "listen": In(1),
                "received": Out(1),
                "send": In(1),
                "sent": Out(1),
                "rx_valid": In(1),
                "rx_data": In(8),
                "o": Out(stream.Signature(8)),
                "receive": Out(1),
                "put": Out(1),
                "data": Out(8),
                "take": Out(1),
                "read": In(8),
                "settled": In(1),
                "at_end": In(1),
                "full": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = LinkCrc()
        escaped = Signal()
        m.d.comb += [
            self.data.eq(self.rx_data ^ Mux(escaped, ESCAPED, 0)),
            crc.data.eq(Mux(self.listen, self.data, self.read)),
            self.o.payload.eq(crc.byte ^ Mux(escaped, ESCAPED, 0)),
        ]
        self._receive(m, crc, escaped)
        self._send(m, crc, escaped)
        return m

    def _receive(self, m: Module, crc: LinkCrc, escaped: Signal):
        inside = Signal()
        with m.If(~self.listen):
            m.d.sync += inside.eq(0)
        with m.Elif(self.rx_valid):
            m.d.sync += escaped.eq(0)
            with m.If(self.rx_data == FLAG):
                m.d.comb += [crc.clear.eq(1), self.received.eq(inside & crc.right & ~self.full)]
                m.d.comb += self.receive.eq(~self.received)
                m.d.sync += inside.eq(1)
            with m.Elif(self.rx_data == ESCAPE):
                m.d.sync += escaped.eq(1)
            with m.Else():
                m.d.comb += [crc.load.eq(1), self.put.eq(inside)]

    def _send(self, m: Module, crc: LinkCrc, escaped: Signal):
        tail, special = Signal(range(CRC_BYTES + 1)), Signal()
        m.d.comb += special.eq((crc.byte == FLAG) | (crc.byte == ESCAPE))
        with m.FSM(name="sending"):
            with m.State("IDLE"), m.If(self.send):
                m.d.comb += crc.clear.eq(1)
                m.d.sync += [tail.eq(0), escaped.eq(0)]
                m.next = "OPEN"
            with m.State("OPEN"):
                m.d.comb += [self.o.payload.eq(FLAG), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.next = "LOAD"
            with m.State("LOAD"), m.If(self.settled):
                m.d.comb += [crc.out.eq(self.at_end), crc.load.eq(1), self.take.eq(~self.at_end)]
                m.next = "LOOK"
                with m.If(self.at_end):
                    m.d.sync += tail.eq(tail + 1)
                    with m.If(tail == CRC_BYTES):
                        m.d.comb += crc.load.eq(0)
                        m.next = "CLOSE"
            with m.State("LOOK"), m.If(~crc.busy):
                m.next = "BYTE"
                with m.If(special):
                    m.next = "ESCAPE"
            with m.State("ESCAPE"):
                m.d.comb += [self.o.payload.eq(ESCAPE), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.d.sync += escaped.eq(1)
                    m.next = "BYTE"
            with m.State("BYTE"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += escaped.eq(0)
                    m.next = "LOAD"
            with m.State("CLOSE"):
                m.d.comb += [self.o.payload.eq(FLAG), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.d.comb += self.sent.eq(1)
                    m.next = "IDLE"
        return m
