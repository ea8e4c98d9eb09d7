"""Fetch stage of the RISC-V core: the bus, and the instructions that come ahead of their use."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .core_bus import CoreBus

__all__ = ["InstructionFetch"]


class InstructionFetch(wiring.Component):
    """Owns the bus: fetches in sequence while there is room, and lets jumps and data accesses go first.

    At most two fetched words wait: one in a register, one on ``bus.word``, where a transfer destroys it, unless the
    register is free. So a load, store, branch or jump may only enter the execute stage if a waiting word, if any, is
    taken in that cycle, or is not needed any more.

    The word at a branch's target is fetched before it is known whether it is needed: ``jump``, and in the cycle after
    either ``leaving`` or ``resume``.

    Members
    -------
    bus : Out(CoreBus)
    word : Out(32), fault : Out(1), valid : Out(1)
        Next instruction, or the news that its fetch failed.
    take : In(1)
        The word, if ``valid``, is taken in this cycle; high with ``leaving``.
    free : Out(1)
        What is asked for with ``access``, ``jump`` or ``resume`` begins in this cycle.
    access : In(1), write : In(1), data : In(32), strobe : In(4)
        A transfer of data at ``computed`` is wanted. ``data`` and ``strobe`` must hold until its end.
    error : Out(1)
        The latest transfer failed.
    jump : In(1)
        A fetch is wanted, from ``held`` (``from_held``) or else ``computed``. The sequence goes on behind it.
    leaving : In(1)
        Whatever was fetched before the jump is dropped.
    resume : In(1)
        The word fetched by ``jump`` is dropped; the sequence goes on at ``held``.
    from_held : In(1), computed : In(30), held : In(30)
    advance : In(1)
        ``pc`` moves to the next word of the sequence; not with ``leaving``, when it moves to where the jump went.
    pc : Out(30)
        Word address of the instruction in the decode stage.
    """

    def __init__(self):
        super().__init__(
            {
                "bus": Out(CoreBus()),
                "word": Out(32),
                "fault": Out(1),
                "valid": Out(1),
                "take": In(1),
                "free": Out(1),
                "access": In(1),
                "write": In(1),
                "data": In(32),
                "strobe": In(4),
                "error": Out(1),
                "jump": In(1),
                "leaving": In(1),
                "resume": In(1),
                "from_held": In(1),
                "computed": In(30),
                "held": In(30),
                "advance": In(1),
                "pc": Out(30),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        last = Signal(30)  # the latest fetch
        pending = Signal()  # the latest transfer is a fetch
        arrived, fault, sequential = Signal(), Signal(), Signal()
        following = Signal(30)
        known = Signal(30)  # the address, if it is not ``computed``, which comes late
        computes = (self.access | self.jump) & ~self.from_held
        buffered, kept, buffer_fault = Signal(), Signal(), Signal()
        buffer = Signal(32, reset_less=True)
        m.d.comb += [
            self.free.eq(bus.ready),
            following.eq(last + 1),
            arrived.eq(pending & bus.ready & ~self.resume),
            sequential.eq(~(self.access | self.jump | self.resume)),
            bus.request.eq(bus.ready & ~(sequential & pending & kept)),
            bus.write.eq(self.write & self.access),
            known.eq(Mux(sequential, following, self.held)),
            bus.addr.eq(Mux(computes, self.computed, known)),
            bus.data.eq(self.data),
            bus.strobe.eq(self.strobe),
            self.error.eq(bus.error),
            fault.eq(bus.error | ~bus.from_memory),
            kept.eq(buffered & ~self.leaving),
            self.word.eq(Mux(kept, buffer, bus.word)),
            self.fault.eq(Mux(kept, buffer_fault, fault)),
            self.valid.eq(kept | arrived),
        ]
        m.d.sync += buffered.eq(~self.leaving & ~self.take & (buffered | arrived))
        with m.If(bus.request):
            m.d.sync += pending.eq(~self.access)
        # ``take`` comes late: a word on the bus stays there in the cycle that takes the one before it from the buffer.
        with m.If(~buffered):
            m.d.sync += [buffer.eq(bus.word), buffer_fault.eq(fault)]
        with m.If(bus.request & ~self.access):
            m.d.sync += last.eq(bus.addr)
        # What is added while ``leaving`` does not matter: so sum and choice are one LUT of iCE40 a bit.
        with m.If(self.leaving | self.advance):
            more = (Cat(1, self.pc) + Cat(1, self.leaving.replicate(30)))[1:31]
            m.d.sync += self.pc.eq(Mux(self.leaving, last, more))
        return m
