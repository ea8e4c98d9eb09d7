"""The result gate: whatever the unit is reset in, each packet that began ends, once, and nothing else changes."""

import pytest
from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, ResetSignal, Signal

from reluctant.hdl.config import SERIAL, UnitConfig
from reluctant.hdl.result_gate import ResultGate

from .harness import check, constant, flat, hold, streak, transfer

COUNT = 4


class Bench:
    """A gate behind a unit that may withdraw what it offers at any time, and is quiet then until ``reset``.

    What must leave, in order: the beats taken, and for each reset in mid-packet one beat with ``last``.
    """

    def __init__(self, phases: str):
        serial = SERIAL if phases == "serial" else {}
        config = UnitConfig(lanes=4, head_dim=16, slots=4, heads=1, kv_heads=1, **serial)
        self.m = m = Module()
        m.submodules.dut = self.dut = dut = ResultGate(config)
        data, self.last = Signal(2), Signal()
        m.d.comb += flat(dut.i.payload).eq(Cat(data, Const(0, 8 * config.lanes - 2), self.last))
        self.taken, self.sent, self.cut = transfer(dut.i), transfer(dut.o), Signal()
        self.entered, self.left, self.pick = Signal(COUNT), Signal(COUNT), constant(m, COUNT, "pick")
        self._unit()
        self.inputs = [data, self.last, dut.i.valid, dut.o.ready, dut.reset, self.pick]

    def _unit(self):
        """Beats hold until they are taken, but for a withdrawal; a packet is cut if it is not over when reset comes.

        Without a register a packet has begun when its first beat is offered, and is cut when a beat is withdrawn.
        """
        m, dut = self.m, self.dut
        waiting, gone, under_way, more, lost = Signal(), Signal(), Signal(), Signal(), Signal()
        was, beat = Signal.like(flat(dut.i.payload)), flat(dut.i.payload)
        # Behind a beat that ends a packet nothing else is offered.
        offered, seen = dut.i.valid & (self.entered == self.left) & dut.direct, Signal()
        m.d.comb += [
            Assume(~gone | ~dut.i.valid),
            Assume(~(waiting & dut.i.valid) | (beat == was)),
            lost.eq(waiting & ~dut.i.valid),
            more.eq(Mux(self.taken, ~self.last, under_way | offered)),
            self.cut.eq(more & (dut.reset | (seen & ~dut.i.valid))),
        ]
        m.d.sync += [
            waiting.eq(dut.i.valid & ~self.taken & ~dut.reset),
            gone.eq((gone | lost) & ~dut.reset),
            was.eq(beat),
            seen.eq(offered & ~self.taken & ~dut.reset),
            under_way.eq(more & ~self.cut),
        ]

    def check_beats(self):
        """The beat of number ``pick`` is what it must be, and none leaves before it came."""
        m, dut, beat = self.m, self.dut, flat(self.dut.i.payload)
        kept, ends, now = Signal.like(beat), Signal(), Signal(COUNT)
        m.d.comb += now.eq(self.entered + self.taken)
        m.d.sync += [self.entered.eq(now + self.cut), self.left.eq(self.left + self.sent)]
        with m.If(self.taken & (self.entered == self.pick)):
            m.d.sync += kept.eq(beat)
        cut = self.cut & (now == self.pick)
        m.d.sync += ends.eq(ends | cut)
        # Without a register a beat leaves in the cycle in which it comes.
        present = self.entered + ((self.taken | self.cut) & dut.direct)
        right = Mux(ends, dut.o.payload.last, flat(dut.o.payload) == kept)
        if dut.direct:
            here = Mux(cut, dut.o.payload.last, flat(dut.o.payload) == beat)
            right = Mux(self.entered == self.pick, here, right)
        with m.If(self.sent):
            m.d.comb += Assert(self.left < present)
            with m.If(self.left == self.pick):
                m.d.comb += Assert(right)

    def check_rest(self):
        """All has left when nothing came, and all was taken, for three cycles."""
        dut = self.dut
        quiet = ~dut.i.valid & ~dut.reset & dut.o.ready
        with self.m.If(streak(self.m, quiet, "quiet", 3) == 3):
            self.m.d.comb += [Assert(dut.i.valid | ~dut.o.valid), Assert(self.left == self.entered)]

    def check_hold(self):
        """What is offered stays until it is taken; without a register, a beat that the unit withdrew may change."""
        if not self.dut.direct:
            hold(self.m, self.dut.o, "o", assume=False)
            return
        waits = Signal()
        self.m.d.sync += waits.eq(self.dut.o.valid & ~self.dut.o.ready)
        self.m.d.comb += Assert(~waits | self.dut.o.valid)


@pytest.mark.parametrize("phases", ["overlapped", "serial"])
def test_each_packet_that_began_ends_once(tmp_path, phases):
    """Any beats, withdrawals, resets and stalls, 14 cycles from reset."""
    bench = Bench(phases)
    bench.check_beats()
    bench.check_rest()
    bench.check_hold()
    bench.m.d.comb += Assume(~ResetSignal())
    check(tmp_path, bench.m, bench.inputs, depth=14)
