"""Lets the packets of accepted steps through to the unit, and swallows the others."""

from enum import Enum

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import UnitConfig
from .row_loader import input_beat
from .stream_fifo import StreamFifo

__all__ = ["PacketGate", "host_beat"]

VERDICTS = 8
"""Packets decided ahead: those of 4 jobs in flight, and as many dropped ones."""
VERDICT_ROOM = 5
"""Verdicts that fit while ``can_drop`` is high: a dropped packet's, and those of 4 jobs."""
OWED_LIMIT = 15


def host_beat(config: UnitConfig) -> data.StructLayout:
    """A beat of a packet as the host sends it."""
    return data.StructLayout({"data": config.lanes * 8, "last": 1})


class _State(Enum):
    IDLE = 0
    PASS = 1
    DROP = 2
    SWALLOW = 3
    END = 4


class PacketGate(wiring.Component):
    """Between the host's input stream and the unit's: no beat is taken before it is known what becomes of its packet.

    Verdicts are queued in the order of the packets: ``started`` says that the next packet passes, ``drop`` that it is
    dropped. A packet passes combinationally, one beat a cycle, or is swallowed at that rate. Between two packets passes
    one cycle, two behind one given up, if the verdict is there.

    ``abort`` gives up the first undecided packet that passes, if one is queued: the unit gets a beat with ``last`` and
    ``bad``, and the rest of the packet, or all of it, is swallowed when it comes. While the unit stalls a beat that was
    offered, this waits; if that beat ends the packet, nothing is left to give up.

    ``flush`` ends the packet that is under way, with a beat with ``last`` and ``bad`` if it was passing, and forgets
    what was still to be swallowed of packets given up: the next beat taken begins a packet. In the same cycle as
    ``abort`` it comes last.

    Parameters
    ----------
    config
        The unit.

    Members
    -------
    i : In(stream(host_beat(config)))
    o : Out(stream(input_beat(config)))
        Holds until taken, except that ``reset`` withdraws what is offered. ``data`` means nothing, and need not hold,
        with ``bad``.
    started, drop : In(1)
        Verdicts; in the same cycle ``drop`` is the later one, and the next cycle must have none. Without room (8
        verdicts) they are lost.
    can_drop : Out(1)
        There is room for this ``drop`` and 4 ``started``.
    abort, flush : In(1)
    reset : In(1)
        Forgets all verdicts; the rest of a packet that is under way is swallowed.
    waiting : In(1)
        The unit waits for a beat.
    patience : In(5)
        ``timeout`` rises after ``2**patience`` cycles; 0: never.
    timeout : Out(1)
        The unit has been waiting on end for so long for a packet that passes; falls when it no longer waits, or when
        15 packets given up are still to be swallowed.
    packet : Out(1)
        A packet is under way: a beat of it was taken, its last was not.
    dropped : Out(1)
        One cycle: a packet was dropped because of ``drop``.
    """

    def __init__(self, config: UnitConfig):
        super().__init__(
            {
                "i": In(stream.Signature(host_beat(config))),
                "o": Out(stream.Signature(input_beat(config))),
                "started": In(1),
                "drop": In(1),
                "can_drop": Out(1),
                "abort": In(1),
                "flush": In(1),
                "reset": In(1),
                "waiting": In(1),
                "patience": In(5),
                "timeout": Out(1),
                "packet": Out(1),
                "dropped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        passes, drops, pop = self._verdicts(m)
        state, under_way, owed = Signal(_State), Signal(), Signal(range(OWED_LIMIT + 1))
        abort_waits, flush_waits = Signal(), Signal()
        give_up, swallowed, flush, last = Signal(), Signal(), Signal(), Signal()
        taken, stalled = self.i.valid & self.i.ready, self.o.valid & ~self.o.ready
        limit = owed == OWED_LIMIT
        m.d.comb += [
            last.eq(taken & self.i.payload.last),
            self.packet.eq(under_way),
            self.o.payload.data.eq(self.i.payload.data),
            self.o.payload.last.eq(self.i.payload.last),
        ]
        m.d.sync += [abort_waits.eq(0), flush_waits.eq(0)]
        with m.Switch(state):
            with m.Case(_State.IDLE):
                m.d.comb += [give_up.eq(self.abort & passes & ~limit), flush.eq(self.flush)]
                with m.If(~flush & (owed != 0)):
                    m.d.sync += state.eq(_State.SWALLOW)
                with m.Elif(passes | drops):
                    m.d.sync += state.eq(Mux(drops, _State.DROP, _State.PASS))
            with m.Case(_State.PASS):
                m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
                abort, ends = self.abort | abort_waits, (self.flush & under_way) | flush_waits
                with m.If(last):
                    m.d.comb += pop.eq(1)
                    m.d.sync += state.eq(_State.IDLE)
                with m.Elif(stalled):
                    m.d.sync += [abort_waits.eq(abort), flush_waits.eq(ends)]
                with m.Elif(abort | ends):
                    m.d.comb += [pop.eq(ends & ~abort), give_up.eq(abort), flush.eq(ends | self.flush)]
                    m.d.sync += state.eq(_State.END)
            with m.Case(_State.DROP):
                m.d.comb += [self.i.ready.eq(~self.flush), flush.eq(self.flush)]
                with m.If(last | (self.flush & under_way)):
                    m.d.comb += [pop.eq(1), self.dropped.eq(1)]
                    m.d.sync += state.eq(_State.IDLE)
            with m.Case(_State.SWALLOW):
                m.d.comb += [self.i.ready.eq(~self.flush), flush.eq(self.flush), swallowed.eq(last)]
                m.d.comb += give_up.eq(self.abort & passes & ~limit)
                with m.If(last | self.flush):
                    m.d.sync += state.eq(_State.IDLE)
            with m.Case(_State.END):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.last.eq(1), self.o.payload.bad.eq(1)]
                m.d.comb += flush.eq(self.flush)
                with m.If(self.o.ready):
                    m.d.sync += state.eq(_State.IDLE)
        m.d.sync += owed.eq(owed + give_up - swallowed)
        with m.If(give_up):
            m.d.comb += pop.eq(1)
            m.d.sync += state.eq(_State.END)
        with m.If(taken):
            m.d.sync += under_way.eq(~self.i.payload.last)
        with m.If(self.reset):
            m.d.sync += [state.eq(_State.IDLE), owed.eq(Mux(taken, ~self.i.payload.last, under_way))]
            m.d.sync += [abort_waits.eq(0), flush_waits.eq(0)]
        with m.If(flush):
            m.d.sync += [owed.eq(0), under_way.eq(0)]
        self._patience(m, self.waiting & passes & ~limit)
        return m

    def _verdicts(self, m: Module):
        """The queue of verdicts. Returns the oldest as two flags, and what removes it."""
        queue = StreamFifo(1, VERDICTS)
        m.submodules.verdicts = ResetInserter(self.reset)(queue)
        drop_waits = Signal()
        dropping, pop = self.drop | drop_waits, Signal()
        m.d.sync += drop_waits.eq(dropping & self.started & ~self.reset)
        m.d.comb += [
            queue.i.valid.eq(self.started | dropping),
            queue.i.payload.eq(~self.started),
            queue.o.ready.eq(pop),
            self.can_drop.eq(queue.level + drop_waits <= VERDICTS - VERDICT_ROOM),
        ]
        return queue.o.valid & ~queue.o.payload, queue.o.valid & queue.o.payload, pop

    def _patience(self, m: Module, owes):
        """Cycles in which the host has owed a beat on end."""
        count, over = Signal(32), Signal()
        m.d.comb += over.eq(count.bit_select(self.patience, 1) & (self.patience != 0))
        with m.If(~owes):
            m.d.sync += count.eq(0)
        with m.Elif(~over):
            m.d.sync += count.eq(count + 1)
        m.d.sync += self.timeout.eq(owes & over)
