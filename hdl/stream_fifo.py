"""A queue of stream payloads."""

from amaranth.hdl import Module, Mux, Shape, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .memory import SmallRam

__all__ = ["StreamFifo"]


class StreamFifo(wiring.Component):
    """First-in-first-out queue of ``depth`` payloads: the first in a register, the others in registers or LUT RAM.

    ``o`` and ``i.ready`` come from registers. Latency 1 cycle, one payload a cycle (with ``depth`` 1 one every
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
        # Payloads behind the first one; whether there is any; whether there is room for another.
        self.behind = Signal(range(depth))
        self.waits = Signal()
        self.room = Signal(init=1)

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
        front = self._waiting(m, free)
        with m.If(free):
            following = Mux(self.waits, front, self.i.payload)
            m.d.sync += [valid.eq(self.waits | self.i.valid), Value.cast(payload).eq(following)]
        m.d.comb += [self.level.eq(self.behind + valid), self.i.ready.eq(self.room)]
        return m

    def _waiting(self, m, free):
        """Payloads behind the first one; returns the first of them."""
        width = Shape.cast(self.shape).width
        if self.depth > 2:
            return self._ring(m, free, width)
        held = Signal(width, reset_less=True)
        m.d.comb += self.behind.eq(self.waits)
        m.d.sync += [
            self.waits.eq(~free & (self.waits | self.i.valid)),
            self.room.eq(free | (self.room & ~self.i.valid)),
        ]
        with m.If(self.room):
            m.d.sync += held.eq(self.i.payload)
        # With a payload waiting none is taken, so the place of the one that moves on is filled a cycle later.
        return held

    def _ring(self, m, free, width):
        """Every payload is written, even one that passes by: so the write waits for nothing that ``o`` does."""
        places = self.depth - 1
        m.submodules.storage = storage = SmallRam(width=width, depth=places)
        produce, consume = Signal(range(places)), Signal(range(places))
        push, pull = Signal(), Signal()
        m.d.comb += [
            push.eq(self.i.valid & self.room),
            pull.eq(free & (self.waits | push)),
            storage.write_en.eq(self.room),  # a place that is free may hold anything
            storage.write_addr.eq(produce),
            storage.write_data.eq(self.i.payload),
            storage.read_addr.eq(consume),
        ]
        with m.If(push):
            m.d.sync += produce.eq(_after(produce, places))
        with m.If(pull):
            m.d.sync += consume.eq(_after(consume, places))
        with m.If(push & ~pull):
            m.d.sync += [self.behind.eq(self.behind + 1), self.waits.eq(1), self.room.eq(self.behind != places - 1)]
        with m.Elif(pull & ~push):
            m.d.sync += [self.behind.eq(self.behind - 1), self.waits.eq(self.behind != 1), self.room.eq(1)]
        return storage.read_data


def _after(place, places: int):
    """The next place of a ring."""
    return Mux(place == places - 1, 0, place + 1)
