"""The memory of the serial link: the request that came and the reply to it."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .link_config import LinkConfig
from .link_protocol import CRC_BYTES, LENGTH_BYTES
from .memory import Ram

__all__ = ["LinkBuffer"]


class LinkBuffer(wiring.Component):
    """Two halves of ``link.buffer`` bytes: the lower one has the request, the upper one the reply.

    One place is written and one is read, each moving on by itself. A request begins at 0, so that once it is there the
    writing place is its length. A reply begins ``CRC_BYTES`` behind the half's beginning, so that the low bits of its
    end are its length with the CRC, which is not kept here. The reply stays until the next request is executed.

    Parameters
    ----------
    link
        Size of the halves.

    Members
    -------
    receive : In(1)
        Write a request from its first byte.
    open : In(1)
        Read the request that was written, which is ``written`` bytes long.
    execute : In(1)
        Write a reply to it, leaving room for its length.
    finish : In(1)
        The reply is whole but for its length: write that. ``end`` is the length then, CRC included.
    reply : In(1)
        Read the reply.
    put : In(1), put_data : In(8)
        Write a byte. Bytes of a request beyond its half are dropped.
    take : In(1)
        On to the next byte.
    data : Out(8), settled : Out(1)
        The byte to read; right while ``settled`` is high, 3 cycles after what moved the place.
    at_end : Out(1)
        There is no such byte.
    written, end : Out
        Low bits of the writing place, and of the end of what is read.
    full : Out(1)
        A request as long as its half was written, or a longer one.
    """

    def __init__(self, link: LinkConfig):
        self.link = link
        self.bits = link.buffer.bit_length() - 1
        super().__init__(
            {
                **dict.fromkeys(("receive", "open", "execute", "finish", "reply", "put", "take"), In(1)),
                "put_data": In(8),
                "data": Out(8),
                "settled": Out(1),
                "at_end": Out(1),
                "written": Out(self.bits),
                "end": Out(self.bits),
                "full": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Ram(width=8, depth=2 * self.link.buffer, latency=2)
        header = self.link.buffer + CRC_BYTES
        executing = Signal()
        write, read, end = (Signal(self.bits + 1, name=name) for name in ("write", "read", "last"))
        room = Signal()
        m.d.comb += [
            room.eq(executing | ~write[-1]),
            memory.write_en.eq(self.put & room),
            memory.write_addr.eq(write),
            memory.write_data.eq(self.put_data),
            memory.read_addr.eq(read),
            self.data.eq(memory.read_data),
            self.at_end.eq(read == end),
            self.written.eq(write),
            self.end.eq(end),
            self.full.eq(write[-1]),
        ]
        with m.If(self.put & room):
            m.d.sync += write.eq(write + 1)
        with m.If(self.take):
            m.d.sync += read.eq(read + 1)
        with m.If(self.receive):
            m.d.sync += [executing.eq(0), write.eq(0)]
        with m.If(self.open):
            m.d.sync += read.eq(0)
        with m.If(self.execute):
            m.d.sync += [executing.eq(1), end.eq(write), write.eq(header + LENGTH_BYTES)]
        with m.If(self.finish):
            m.d.sync += [end.eq(write), write.eq(header)]
        with m.If(self.reply):
            m.d.sync += read.eq(header)
        moved, resting = self.take | self.open | self.reply, Signal()
        m.d.sync += [resting.eq(~moved), self.settled.eq(resting & ~moved)]
        return m
