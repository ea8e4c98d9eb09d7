"""A queue of stream payloads."""

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["StreamFifo"]


class StreamFifo(wiring.Component):
    """First-in-first-out queue of ``depth`` payloads, in registers or LUT RAM.

    Latency 1 cycle, one payload a cycle (with ``depth`` 1 one every other cycle); ``o.payload`` holds until taken;
    neither side waits for the other.

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
        if self.depth == 1:
            self._register(m)
            return m
        m.submodules.fifo = queue = fifo.SyncFIFO(width=Shape.cast(self.shape).width, depth=self.depth)
        m.d.comb += [
            queue.w_data.eq(self.i.payload),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
            self.level.eq(queue.level),
        ]
        if hasattr(self.o.payload, "as_value"):
            m.d.comb += self.o.payload.as_value().eq(queue.r_data)
        else:
            m.d.comb += self.o.payload.eq(queue.r_data)
        return m

    def _register(self, m):
        """One payload (Amaranth's queue of one has addresses of no bits, which Verilog cannot say)."""
        held = Signal(self.shape, reset_less=True)
        m.d.comb += [self.i.ready.eq(~self.level), self.o.valid.eq(self.level), self.o.payload.eq(held)]
        m.d.sync += self.level.eq(Mux(self.level, ~self.o.ready, self.i.valid))
        with m.If(~self.level):
            m.d.sync += held.eq(self.i.payload)
