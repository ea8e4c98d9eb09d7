"""Performance counters in one small memory."""

from dataclasses import replace

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from .address_map import AddressMap
from .config import UnitConfig
from .memory import Ram
from .register_map import RegisterMap

__all__ = ["SYSTEM_COUNTER_BITS", "PerformanceCounters", "counter_events"]

WORD_BITS = 16
MOST_BITS = 64
SYSTEM_COUNTER_BITS = 32
"""Width of a system's counters whose unit has none."""


def counter_events(config: UnitConfig, registers: AddressMap | None = None) -> data.StructLayout:
    """One bit per counter of the register map (the unit's if none is given), named after it; high in a cycle: the
    counter counts one. The unit's are there in a build without counters too."""
    registers = registers or RegisterMap(config if config.counter_bits else replace(config, counter_bits=MOST_BITS))
    return data.StructLayout({name.lower(): 1 for name in registers.counters})


class PerformanceCounters(wiring.Component):
    """Counters of ``counter_bits`` each that wrap, count every event exactly, and cost little.

    Every counter has a few bits in flip-flops. A scan visits one counter after the other, takes those bits and adds
    them to the counter's 16-bit words in a memory; the bits are wide enough for an event in every cycle of a scan. A
    read waits for the next visit of its counter, so it gives the exact count at that visit.

    Parameters
    ----------
    config
        The build.
    registers
        The map whose counters these are, the unit's if absent.

    Members
    -------
    events : In(counter_events(config, registers))
    clear : In(1)
        All counters become 0; an event in the cycle of ``clear`` is lost, later ones count. All are 0 after reset too.
    start : In(1), index : In(range(counters))
        Asks for a counter; not again before ``done``. ``index`` holds until ``done``.
    done : Out(1)
        One pulse, at most ``longest_read`` cycles after ``start``.
    low, high : Out(32)
        The counter, from ``done`` until the next ``start``; every event before ``start`` is in it.

    Attributes
    ----------
    scan : int
        Cycles of a scan: counters times words per counter.
    longest_read : int
        Cycles from ``start`` to ``done`` in the worst case.
    """

    def __init__(self, config: UnitConfig, registers: AddressMap | None = None):
        self.config = config
        self.events_layout = counter_events(config, registers)
        self.count = len(self.events_layout.members)
        self.words = -(-config.counter_bits // WORD_BITS)
        self.scan = self.count * self.words
        self.longest_read = self.scan + self.words + 4
        super().__init__(
            {
                "events": In(self.events_layout),
                "clear": In(1),
                "start": In(1),
                "index": In(range(self.count)),
                "done": Out(1),
                "low": Out(32),
                "high": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Ram(width=WORD_BITS, depth=self.scan, latency=2)
        row, index, word = Signal(range(self.scan)), Signal(range(self.count)), Signal(range(max(2, self.words)))
        fresh, first = Signal(init=1), Signal()
        m.d.comb += [first.eq(word == 0), ram.read_addr.eq(row)]
        self._step(m, row, index, word, fresh)
        recent = self._recent(m, first, index)
        wanted = self._wanted(m, first, index)

        # Cycle 0 presents the address, the word is there in cycle 2 and written back, with its sum, in cycle 3.
        stages = data.StructLayout(
            {"valid": 1, "row": row.shape(), "word": word.shape(), "first": 1, "fresh": 1, "wanted": 1}
        )
        stage = [Signal(stages, name=f"stage_{number}") for number in range(4)]
        addend = [Signal.like(recent, name=f"addend_{number}", reset_less=True) for number in range(2)]
        m.d.comb += stage[0].eq(Cat(Const(1), row, word, first, fresh, wanted))
        m.d.sync += [stage[number + 1].eq(stage[number]) for number in range(3)]
        m.d.sync += [addend[0].eq(recent), addend[1].eq(addend[0])]
        total, carry = Signal(WORD_BITS, reset_less=True), Signal()
        base, more = Signal(WORD_BITS), Signal.like(recent)
        m.d.comb += [
            base.eq(Mux(stage[2].fresh, 0, ram.read_data)),
            more.eq(Mux(stage[2].first, addend[1], carry)),
            ram.write_en.eq(stage[3].valid),
            ram.write_addr.eq(stage[3].row),
            ram.write_data.eq(total),
        ]
        m.d.sync += Cat(total, carry).eq(base + more)
        self._keep(m, stage[3], total)
        return m

    def _step(self, m: Module, row, index, word, fresh):
        """Move the scan on by one word. ``fresh``: what the memory holds does not count yet, or no more."""
        last = row == self.scan - 1
        m.d.sync += row.eq(Mux(last, 0, row + 1))
        with m.If(word == self.words - 1):
            m.d.sync += [word.eq(0), index.eq(Mux(last, 0, index + 1))]
        with m.Else():
            m.d.sync += word.eq(word + 1)
        with m.If(last):
            m.d.sync += fresh.eq(0)
        with m.If(self.clear):
            m.d.sync += [row.eq(0), index.eq(0), word.eq(0), fresh.eq(1)]

    def _recent(self, m: Module, first, index):
        """Events of the counter visited since its last visit; they are taken in the visit's first cycle."""
        counts = []
        for number, name in enumerate(self.events_layout.members):
            recent = Signal(bits_for(self.scan), name=f"recent_{name}")
            taken = Signal(name=f"taken_{name}")
            m.d.comb += taken.eq(first & (index == number))
            m.d.sync += recent.eq(Mux(taken, 0, recent) + self.events[name])
            with m.If(self.clear):
                m.d.sync += recent.eq(0)
            counts.append(recent)
        return Array(counts)[index]

    def _wanted(self, m: Module, first, index):
        """Whether the word that the scan is at belongs to the visit that a read waits for."""
        pending, now, held = Signal(), Signal(), Signal()
        m.d.comb += now.eq(Mux(first, pending & (index == self.index), held))
        m.d.sync += held.eq(now)
        with m.If(self.start):
            m.d.sync += pending.eq(1)
        with m.Elif(now):
            m.d.sync += pending.eq(0)
        return now

    def _keep(self, m: Module, stage, total):
        """Keep the words of the counter asked for; the last one ends the read."""
        kept = [Signal(WORD_BITS, name=f"word_{number}", reset_less=True) for number in range(self.words)]
        done = Signal()
        m.d.sync += done.eq(stage.wanted & (stage.word == self.words - 1))
        for number, value in enumerate(kept):
            with m.If(stage.wanted & (stage.word == number)):
                m.d.sync += value.eq(total)
        counter = Cat(kept)[: self.config.counter_bits]
        m.d.comb += [self.done.eq(done), self.low.eq(counter[:32]), self.high.eq(counter[32:])]
