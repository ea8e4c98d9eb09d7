"""The attention unit on a clock of its own."""

from amaranth.hdl import DomainRenamer, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out, connect, flipped

from .attention_unit import AttentionUnit
from .axi_lite import WORD_SHIFT, RegisterBus
from .bus_crossing import BusCrossing
from .config import UnitConfig
from .event_crossing import EventCrossing
from .register_map import RegisterMap
from .result_gate import ResultGate
from .result_packer import result_beat
from .row_loader import input_beat
from .stream_crossing import StreamCrossing

__all__ = ["UnitDomain"]


class UnitDomain(wiring.Component):
    """An :class:`AttentionUnit` and its :class:`ResultGate` in clock domain ``unit``, with all members in ``sync``.

    The two clocks may have any ratio and phase. Their resets come together: whenever one is asserted, both must be at
    the same time for at least 4 cycles of either clock. They may begin and end in any order; what leaves has no meaning
    while one is asserted.

    What the parts of a system rely on, and why it holds here:

    * *A verdict is there before the access that gave it is answered* (the firmware may drop the next packet then, or
      reset the gate): ``started`` crosses within the answer, and comes in the cycle of ``done``.
    * *Whoever clears the event of a finished job, and then finds a job not done, gets another event*: ``finished``
      leaves the unit when the job's state can be read, and is only delayed. One that comes before the event is cleared
      left before the state was read, which then says done. Merged pulses are no loss: they set the same event.
    * *The unit waits for the host only if the host owes it a beat, and a beat ends the wait*: a wait shorter than a
      cycle, or its end, may be missed by a synchroniser. So ``waiting`` is low also while a beat is offered here or on
      its way. That a beat is taken is known no earlier than the ``waiting`` of that time, which is low, as it takes a
      register more than a synchroniser may be late. So no wait of before the beat shows again.
    * *After a soft reset of the unit no beat of an older packet reaches it, and the answer that was cut is ended before
      the next begins*: see ``reset``. No job can start in between, as accesses wait.
    * *An access under way ends though the core is reset*: the bridge holds it, nothing here withdraws it.

    Members
    -------
    bus, busy, started, finished, waiting
        As those of :class:`AttentionUnit`, later. ``started`` comes in the cycle of ``bus.done``; ``busy`` shows only
        what lasts longer than a cycle.
    i : In(stream(input_beat(config)))
        ``valid`` may be withdrawn in the cycle after ``reset``.
    o : Out(stream(result_beat(config)))
        Behind the gate and a queue: up to 17 beats of answers whose jobs are over.
    reset : In(1)
        One cycle: what was taken from ``i`` and not by the unit is dropped, and a cut answer ended, as by
        :class:`ResultGate`. The unit was soft-reset by an access that is answered. Until all of it is done, about 6
        cycles of either clock, no access begins and no beat is taken.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        self.addr_width = RegisterMap(config).address_width - WORD_SHIFT
        super().__init__(
            {
                "bus": In(RegisterBus(self.addr_width)),
                "i": In(stream.Signature(input_beat(config))),
                "o": Out(stream.Signature(result_beat(config))),
                "busy": Out(1),
                "started": Out(1),
                "finished": Out(1),
                "waiting": Out(1),
                "reset": In(1),
            }
        )

    def elaborate(self, platform):
        m, config = Module(), self.config
        unit, results = AttentionUnit(config), ResultGate(config)
        m.submodules.unit = DomainRenamer("unit")(unit)
        m.submodules.results = DomainRenamer("unit")(results)
        m.submodules.accesses = accesses = BusCrossing(self.addr_width)
        m.submodules.packets = packets = StreamCrossing(input_beat(config), i_domain="sync", o_domain="unit")
        m.submodules.answers = answers = StreamCrossing(result_beat(config), i_domain="unit", o_domain="sync")
        m.submodules.events = events = EventCrossing(i_domain="unit", o_domain="sync")
        connect(m, flipped(self.bus), accesses.bus)
        connect(m, accesses.unit, unit.bus)
        connect(m, unit.o, results.i)
        connect(m, results.o, answers.i)
        connect(m, answers.o, flipped(self.o))
        blocked, dropping = self._reset(m, packets, results)
        waiting = self._level(m, "waiting", unit.waiting)
        m.d.comb += [
            accesses.wait.eq(blocked),
            accesses.unit_started.eq(unit.started),
            self.started.eq(accesses.started),
            events.i.eq(unit.finished),
            self.finished.eq(events.o),
            self.busy.eq(self._level(m, "busy", unit.busy)),
            self.waiting.eq(waiting & packets.empty & ~self.i.valid),
            packets.i.payload.eq(self.i.payload),
            packets.i.valid.eq(self.i.valid & ~blocked),
            self.i.ready.eq(packets.i.ready & ~blocked),
            unit.i.payload.eq(packets.o.payload),
            unit.i.valid.eq(packets.o.valid & ~dropping),
            packets.o.ready.eq(unit.i.ready | dropping),
        ]
        return m

    @staticmethod
    def _level(m: Module, name: str, value) -> Signal:
        """A level of the unit, on our clock; from a register, as what settles within a cycle must not cross."""
        there, here = Signal(name=f"{name}_there"), Signal(name=f"{name}_here")
        m.d.unit += there.eq(value)
        m.submodules[name] = FFSynchronizer(there, here, o_domain="sync")
        return here

    def _reset(self, m: Module, packets: StreamCrossing, results: ResultGate):
        """A level goes to the unit's side, which drops beats while it is high, and comes back.

        It falls when it has come back and no beat is left, and all is over when its fall has come back: as nothing is
        put into the queue in between, nothing is dropped that came later. Returns what blocks, and what drops.
        """
        asked, dropping, dropped, answered = Signal(), Signal(), Signal(), Signal()
        m.submodules.reset_there = FFSynchronizer(asked, dropping, o_domain="unit")
        m.submodules.reset_home = FFSynchronizer(dropped, answered, o_domain="sync")
        m.d.unit += dropped.eq(dropping)
        m.d.comb += results.reset.eq(dropping & ~dropped)
        with m.If(self.reset):
            m.d.sync += asked.eq(1)
        with m.Elif(answered & packets.empty):
            m.d.sync += asked.eq(0)
        return asked | answered, dropping
