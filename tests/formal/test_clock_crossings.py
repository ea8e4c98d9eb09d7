"""Crossings between clocks that tick in any order, with synchronisers that are late at will."""

import pytest
from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal

from reluctant.hdl import stream_crossing
from reluctant.hdl.bus_crossing import BusCrossing
from reluctant.hdl.event_crossing import EventCrossing
from reluctant.hdl.stream_crossing import StreamCrossing

from .harness import Tap, check, hold, same_order, transfer
from .two_clocks import TwoClocks


def test_no_event_is_lost_or_made_up(tmp_path):
    """Any pulses, any order of ticks, 24 of them in all: a pulse out follows each one in before long, and none comes
    of nothing."""
    m, dut = Module(), EventCrossing(i_domain="unit", o_domain="sync")
    clocks = TwoClocks(m, dut, patience=2)
    sent, got = dut.i & clocks.there, dut.o & clocks.here
    owed, age = Signal(6), Signal(6)
    m.d.sync += owed.eq(Mux(got, Mux(owed == 0, 0, owed - 1) + sent, owed + sent))
    m.d.comb += Assert(~got | (owed != 0))
    # Merged pulses: what counts is that one comes after the latest.
    waits = Signal()
    m.d.sync += waits.eq(sent | (waits & ~got))
    m.d.sync += age.eq(Mux(waits & ~sent & ~got, age + 1, 0))
    m.d.comb += Assert(age < 22)
    check(tmp_path, m, [dut.i, *clocks.inputs], depth=26)


def _hold(m: Module, dut, tick, request, done, signals):
    """The rules of a RegisterBus, for the side that asks: what must be assumed, or shown, of it in each cycle."""
    before, was, was_done = Signal(len(Cat(signals))), Signal(), Signal()
    with m.If(tick):
        m.d.sync += [before.eq(Cat(signals)), was.eq(request & ~done), was_done.eq(request & done)]
    return (~was | (request & (Cat(signals) == before))) & ~(was_done & request)


def test_each_access_arrives_once_and_gets_its_answer(tmp_path):
    """Any accesses, any answers of a unit that takes its time, any order of ticks, 22 of them in all.

    No access begins without being asked for, or while it is to wait; it is as it was asked and keeps the bus's rules;
    its answer, and whether it started a job, is what the unit said.
    """
    m, dut = Module(), BusCrossing(2)
    clocks = TwoClocks(m, dut, patience=3)
    bus, unit, here, there = dut.bus, dut.unit, clocks.here, clocks.there
    what = [bus.write, bus.addr, bus.data[:2], bus.strobe[:1]]
    arrived = [unit.write, unit.addr, unit.data[:2], unit.strobe[:1]]
    m.d.comb += [
        Assume(_hold(m, dut, here, bus.request, bus.done, what)),
        Assert(_hold(m, dut, there, unit.request, unit.done, arrived)),
        Assume(unit.request | ~unit.done),
        Assume(unit.request | ~dut.unit_started),
    ]
    # Since the access before was answered: it is under way at the unit; answered there, how, and started.
    began, ended, started = Signal(), Signal(), Signal()
    answer, said = Signal(3), Cat(unit.error, unit.read_data[:2])
    finished, done = there & unit.request & unit.done, here & bus.request & bus.done
    m.d.sync += [
        began.eq((began | (there & unit.request)) & ~done),
        ended.eq((ended | finished) & ~done),
        started.eq((started | (there & dut.unit_started)) & ~done),
    ]
    with m.If(finished):
        m.d.sync += answer.eq(said)
    with m.If(unit.request):
        m.d.comb += [Assert(bus.request), Assert(Cat(arrived) == Cat(what)), Assert(~ended)]
    with m.If(bus.done):
        m.d.comb += [
            Assert(bus.request & ended),
            Assert(Cat(bus.error, bus.read_data[:2]) == answer),
            Assert(dut.started == started),
        ]
    m.d.comb += Assert(bus.done | ~dut.started)
    waited = Signal()
    m.d.sync += waited.eq(dut.wait & (waited | ~bus.request))
    m.d.comb += Assert(~waited | ~unit.request)
    inputs = [bus.request, *what, dut.wait, unit.done, unit.error, unit.read_data, dut.unit_started]
    data, strobe = Signal(2), Signal()
    m.d.comb += [bus.data.eq(data), bus.strobe.eq(strobe)]
    inputs = [bus.request, bus.write, bus.addr, data, strobe, dut.wait, unit.done, unit.error, unit.read_data]
    check(tmp_path, m, [*inputs, dut.unit_started, *clocks.inputs], depth=22)


@pytest.mark.parametrize(("i_domain", "o_domain"), [("sync", "unit"), ("unit", "sync")])
def test_a_stream_arrives_whole_and_in_order(tmp_path, monkeypatch, i_domain, o_domain):
    """Any payloads, stalls and order of ticks, 15 of them in all, through a queue of 4: what leaves is what entered.

    A payload on offer stays until it is taken, and ``empty`` is true: nothing is in the queue or on offer then.
    """
    monkeypatch.setattr(stream_crossing, "DEPTH", 4)
    monkeypatch.setattr(stream_crossing, "BITS", 3)
    m, dut = Module(), StreamCrossing(1, i_domain=i_domain, o_domain=o_domain)
    clocks = TwoClocks(m, dut, patience=3)
    ticks = {"sync": clocks.here, "unit": clocks.there}
    enters = dut.i.valid & ticks[i_domain]
    leaves = dut.o.ready & ticks[o_domain]
    source, sink = Tap(enters, dut.i.payload, dut.i.ready), Tap(dut.o.valid, dut.o.payload, leaves)
    pick = same_order(m, source, sink)
    hold(m, sink, "o", assume=False)
    waiting = Signal(4)
    m.d.sync += waiting.eq(waiting + transfer(source) - transfer(sink))
    m.d.comb += Assert(~dut.empty | (waiting == 0))
    check(tmp_path, m, [dut.i.valid, dut.i.payload, dut.o.ready, pick, *clocks.inputs], depth=15)
