"""Fetch stage of the RISC-V core: the bus, and the instructions that come ahead of their use."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .core_bus import CoreBus

__all__ = ["InstructionFetch"]


class InstructionFetch(wiring.Component):
    """Owns the bus: fetches in sequence while there is room, and lets jumps and data accesses go between.

    At most two fetched words wait: one in a register, one on ``bus.read_data``, where a data access would destroy it.
    So while an access comes (``accessing``), a word is only asked for if none waits; and a load or store may only enter
    the execute stage if a waiting word, if any, is taken.

    Members
    -------
    bus : Out(CoreBus)
    word : Out(32), fault : Out(1), valid : Out(1)
        Next instruction, or the news that its fetch failed.
    take : In(1)
        The word, if ``valid``, is taken in this cycle.
    accessing : In(1)
        High from the cycle after a load or store entered the execute stage until its transfer.
    access : In(1), write : In(1), access_addr : In(30), data : In(32), strobe : In(4)
        A transfer of data is wanted while ``access`` is high; all hold until ``accessed``.
    accessed : Out(1), error : Out(1)
        The transfer takes place in this cycle, and fails.
    jump : In(1), from_value : In(1), jump_addr : In(30)
        The sequence goes on at ``jump_addr`` (``from_value``) or ``access_addr``; holds until ``jumped``. Whatever was
        fetched before is dropped.
    busy : In(1)
        No fetch in sequence begins; high with ``access`` and with ``jump``.
    jumped : Out(1)
        The first fetch of the new sequence takes place in this cycle.
    advance : In(1)
        ``pc`` moves to the next word of the sequence; ``jumped`` wins.
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
                "accessing": In(1),
                "access": In(1),
                "write": In(1),
                "access_addr": In(30),
                "data": In(32),
                "strobe": In(4),
                "accessed": Out(1),
                "error": Out(1),
                "busy": In(1),
                "jump": In(1),
                "from_value": In(1),
                "jump_addr": In(30),
                "jumped": Out(1),
                "advance": In(1),
                "pc": Out(30),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        next_addr = Signal(30)
        waiting = Signal()  # a fetch in sequence was asked for and not answered: it must go on
        arrived, arrived_fault = Signal(), Signal()
        buffered, buffer_fault = Signal(), Signal()
        buffer = Signal(32, reset_less=True)
        room, foreign, transfer = Signal(), Signal(), Signal()
        m.d.comb += [
            room.eq(Mux(self.accessing, ~(buffered | arrived), ~(buffered & arrived))),
            foreign.eq(self.busy & ~waiting),
            bus.request.eq(waiting | Mux(self.busy, self.access | self.jump, room)),
            bus.write.eq(self.write & self.access & ~waiting),
            bus.addr.eq(Mux(foreign, Mux(self.from_value, self.jump_addr, self.access_addr), next_addr)),
            bus.data.eq(self.data),
            bus.strobe.eq(self.strobe),
            transfer.eq(bus.request & bus.ready),
            self.accessed.eq(self.access & ~waiting & bus.ready),
            self.jumped.eq(self.jump & ~waiting & bus.ready),
            self.error.eq(bus.error),
            self.word.eq(Mux(buffered, buffer, bus.read_data)),
            self.fault.eq(Mux(buffered, buffer_fault, arrived_fault)),
            self.valid.eq(buffered | arrived),
        ]
        m.d.sync += [
            waiting.eq(bus.request & ~bus.ready & ~foreign),
            buffered.eq(~self.jump & Mux(buffered == self.take, arrived, buffered)),
        ]
        with m.If(transfer):
            m.d.sync += [arrived.eq(self.jumped | ~(self.access & ~waiting | self.jump)), arrived_fault.eq(bus.error)]
        with m.Elif(self.jump | ~buffered | self.take):
            m.d.sync += arrived.eq(0)
        with m.If(~buffered | self.take):
            m.d.sync += [buffer.eq(bus.read_data), buffer_fault.eq(arrived_fault)]
        with m.If(transfer & ~(self.access & ~waiting)):
            m.d.sync += next_addr.eq(bus.addr + 1)
        with m.If(self.jumped):
            m.d.sync += self.pc.eq(bus.addr)
        with m.Elif(self.advance):
            m.d.sync += self.pc.eq(self.pc + 1)
        return m
