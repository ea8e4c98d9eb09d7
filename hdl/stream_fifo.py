"""A queue of stream payloads."""

from amaranth.hdl import Module, Mux, Shape, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["StreamFifo"]


class StreamFifo(wiring.Component):
    """First-in-first-out queue of ``depth`` payloads: the first in a register, the others in registers or LUT RAM.

    ``o`` comes from registers, ``i.ready`` from few. Latency 1 cycle, one payload a cycle (with ``depth`` 1 one every
    other cycle); ``o.payload`` holds until taken; neither side waits for the other.

    Parameters
    ----------
    shape
        Shape of the payload.
    depth
        Payloads held, at least 1.

    Members
    -------
    i : In(stream), o : Out(stream)
    level : Out(range(depth + 1)), payloads held
    """

    def __init__(self, shape, depth: int):
        if depth < 1:
            raise ValueError(f"depth is {depth!r}: at least 1 is needed")
        self.shape, self.depth = shape, depth
        super().__init__(
            {"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "level": Out(range(depth + 1))}
        )

    def elaborate(self, platform):
        m = Module()
        valid, payload = Signal(), Signal(self.shape, reset_less=True)
        free = Signal()
        m.d.comb += [
            free.eq(~valid | self.o.ready),
            self.o.valid.eq(valid),
            self.o.payload.eq(payload),
        ]
        if self.depth == 1:
            m.d.comb += [self.i.ready.eq(~valid), self.level.eq(valid)]
            with m.If(~valid):
                m.d.sync += [valid.eq(self.i.valid), payload.eq(self.i.payload)]
            with m.Elif(self.o.ready):
                m.d.sync += valid.eq(0)
            return m
        waits, front, level = self._waiting(m, free)
        with m.If(free):
            m.d.sync += [valid.eq(waits | self.i.valid), Value.cast(payload).eq(Mux(waits, front, self.i.payload))]
        m.d.comb += self.level.eq(level + valid)
        return m

    def _waiting(self, m, free):
        """Payloads behind the first one: whether there is any, the first of them, and how many."""
        width = Shape.cast(self.shape).width
        if self.depth == 2:  # Amaranth's queue of one has addresses of no bits, which Verilog cannot say
            full, held = Signal(), Signal(width, reset_less=True)
            m.d.comb += self.i.ready.eq(~full)
            m.d.sync += full.eq(~free & (full | self.i.valid))
            with m.If(~full):
                m.d.sync += held.eq(self.i.payload)
            # With a payload waiting none is taken, so the place of the one that moves on is filled a cycle later.
            return full, held, full
        m.submodules.fifo = queue = fifo.SyncFIFO(width=width, depth=self.depth - 1)
        m.d.comb += [
            queue.w_data.eq(self.i.payload),
            queue.w_en.eq(self.i.valid & (queue.r_rdy | ~free)),
            queue.r_en.eq(free),
            self.i.ready.eq(queue.w_rdy),
        ]
        return queue.r_rdy, queue.r_data, queue.level
