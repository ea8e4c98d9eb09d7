"""The packet gate: every packet gets its own verdict, whatever was given up before, and streams keep their rules."""

from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.packet_gate import PacketGate

from .harness import Tap, check, constant, delayed, hold, streak, transfer

CONFIG = UnitConfig(lanes=4, head_dim=16, slots=4, heads=1, kv_heads=1)
VERDICTS = 8


class Bench:
    """A gate behind any packets and lawful verdicts; counts verdicts given, packets taken, packets ended at ``o``."""

    def __init__(self):
        self.m = m = Module()
        m.submodules.dut = self.dut = dut = PacketGate(CONFIG)
        data, last = Signal(4), Signal()
        hold(m, dut.i, "i", assume=True)
        m.d.comb += Cat(dut.i.payload.data, dut.i.payload.last).eq(Cat(data, Const(0, 8 * CONFIG.lanes - 4), last))
        self.verdicts, self.packets, self.passes, self.ended = Signal(4), Signal(4), Signal(4), Signal(4)
        self.taken = transfer(dut.i)
        self.sent = transfer(dut.o)
        both = delayed(m, dut.started & dut.drop, "both")
        m.d.sync += [
            self.verdicts.eq(self.verdicts + dut.started + dut.drop),
            self.passes.eq(self.passes + dut.started),
            self.packets.eq(self.packets + (self.taken & dut.i.payload.last)),
            self.ended.eq(self.ended + (self.sent & dut.o.payload.last)),
        ]
        m.d.comb += Assume(~both | ~(dut.started | dut.drop))
        self.inputs = [data, last, dut.i.valid, dut.o.ready, dut.started, dut.drop]

    def packets_pass_as_they_are(self):
        """What leaves, other than a bad end, is the beat that is taken in the same cycle."""
        dut = self.dut
        through = self.sent & ~dut.o.payload.bad
        with self.m.If(through):
            self.m.d.comb += [
                Assert(self.taken),
                Assert(dut.o.payload.data == dut.i.payload.data),
                Assert(dut.o.payload.last == dut.i.payload.last),
            ]
        self.m.d.comb += Assert(~dut.o.payload.bad | dut.o.payload.last)
        return through


def test_every_packet_gets_its_verdict(tmp_path):
    """Any packets, verdicts with room for them, packets given up at any time, any stall, 12 cycles from reset.

    A free but constant number picks a packet. No beat of it is taken before its verdict; none passes if it is to be
    dropped, or after it was given up; beats pass unchanged, with none lost in between, and only as the packet that the
    unit has come to. A packet is counted as dropped if and when its verdict says so.
    """
    bench = Bench()
    m, dut = bench.m, bench.dut
    pick = constant(m, 2, "pick")
    known, passing, turn, given_up = Signal(), Signal(), Signal(4), Signal()
    through = bench.packets_pass_as_they_are()
    m.d.comb += Assume(bench.verdicts - bench.packets <= VERDICTS - 2)
    first, second = bench.verdicts == pick, bench.verdicts + 1 == pick
    with m.If((dut.started | dut.drop) & (first | (second & dut.started & dut.drop))):
        m.d.sync += [known.eq(1), passing.eq(dut.started & first), turn.eq(bench.passes)]
    with m.If(bench.sent & dut.o.payload.bad & known & passing & (bench.ended == turn)):
        m.d.sync += given_up.eq(1)
    ours = bench.packets == pick
    with m.If(bench.taken & ours):
        m.d.comb += [
            Assert(known),
            Assert(through == (passing & ~given_up)),
            Assert(~through | (bench.ended == turn)),
            Assert(dut.dropped == (~passing & dut.i.payload.last)),
        ]
    m.d.comb += [
        Assert(~dut.dropped | bench.taken),
        Assert(bench.ended + (bench.sent & dut.o.payload.last) <= bench.passes),
        Assert(dut.packet == delayed(m, Mux(bench.taken, ~dut.i.payload.last, dut.packet), "packet")),
    ]
    check(tmp_path, m, [*bench.inputs, dut.abort, pick], depth=12)


def test_gate_does_not_idle(tmp_path):
    """Any packets and verdicts, nothing given up, 12 cycles: a packet whose verdict is there begins to move within two
    cycles, and moves whenever the unit and the host let it."""
    bench = Bench()
    m, dut = bench.m, bench.dut
    m.d.comb += Assume(bench.verdicts - bench.packets <= VERDICTS - 2)
    decided = bench.verdicts != bench.packets
    idle = decided & dut.i.valid & dut.o.ready & ~dut.i.ready
    m.d.comb += [
        Assert(streak(m, idle, "idle") < 2),
        Assert(~dut.packet | ~dut.i.valid | ~dut.o.ready | dut.i.ready),
        Assert(~dut.can_drop | (bench.verdicts - bench.packets <= 4)),
    ]
    check(tmp_path, m, bench.inputs, depth=12)


def test_streams_keep_their_rules_whatever_happens(tmp_path):
    """Any packets, any use of abort, flush and reset at any time, 11 cycles from reset.

    What is offered to the unit holds until taken, unless it is withdrawn by a reset; it gets no more ends of packets
    than jobs were started; a flush leaves no packet under way once the unit has taken what it was offered; a beat that
    leaves is one that is taken.
    """
    bench = Bench()
    m, dut = bench.m, bench.dut
    through = bench.packets_pass_as_they_are()
    offered = Cat(dut.o.payload.last, dut.o.payload.bad, Mux(dut.o.payload.bad, 0, dut.o.payload.data))
    hold(m, Tap(dut.o.valid, offered, dut.o.ready | dut.reset), "o", assume=False)
    outstanding = bench.passes - bench.ended
    m.d.comb += [
        Assume(outstanding <= VERDICTS),
        Assert(bench.ended + (bench.sent & dut.o.payload.last) <= bench.passes),
        Assert(~dut.o.valid | dut.o.payload.bad | dut.i.valid),
        Assert(~(dut.i.valid & dut.i.ready) | through | ~dut.o.valid),
    ]
    free = ~dut.o.valid | dut.o.ready
    flushed = delayed(m, dut.flush & free & dut.packet, "flushed")
    with m.If(flushed):
        m.d.comb += Assert(~dut.packet)
    check(tmp_path, m, [*bench.inputs, dut.abort, dut.flush, dut.reset], depth=11)
