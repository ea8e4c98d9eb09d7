"""The score buffer: the two ends of a bank never meet, and what is read is what was written."""

import pytest
from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal

from reluctant.golden.formats import Mode
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.score_buffer import ScoreBuffer

from .harness import Tap, check, delayed, hold, transfer


def lawful_scores(m, config, dut):
    """Assume the protocol of heads and scores, and scores and thresholds of 2 bits."""
    head, score = dut.head, dut.score
    unmasked = transfer(head) & ~head.payload.value.result.masked
    used, ready, count = Signal(3), Signal(3), Signal(range(config.slots + 1))
    ends = score.valid & score.last
    hold(m, head, "head", assume=True)
    m.d.sync += [
        used.eq(used + unmasked - dut.released),
        ready.eq(ready + delayed(m, unmasked, "pushed") - ends),
    ]
    with m.If(score.valid):
        m.d.sync += count.eq(Mux(score.last, 0, count + 1))
    m.d.comb += [
        Assert(~dut.released | (used != 0)),
        Assume((used < 2) | ~head.valid | head.payload.value.result.masked),
        Assume((ready != 0) | ~score.valid),
        Assume((count != config.slots - 1) | ~score.valid | score.last),
        Assume((score.score >= -2) & (score.score < 2)),
        Assume((head.payload.theta >= -1) & (head.payload.theta < 2)),
    ]


def bench(slots):
    """A buffer, its harness and the inputs that are free."""
    config = UnitConfig(lanes=4, head_dim=16, slots=slots, heads=2, kv_heads=1)
    m = Module()
    m.submodules.dut = dut = ScoreBuffer(config)
    lawful_scores(m, config, dut)
    return m, dut, [dut.head.payload, dut.head.valid, dut.score, dut.summary.ready]


@pytest.mark.parametrize("slots", [3, 4])
def test_the_ends_never_meet(tmp_path, slots):
    """Any heads under the protocol, scores and thresholds of 2 bits, any waits, 18 cycles from reset.

    Entries at both ends together are never more than rows, in the head that is scored and in the one that is read.
    """
    m, dut, inputs = bench(slots)
    m.d.comb += [Assert(dut.active + dut.rest <= slots), Assert(dut.done_active + dut.done_rest <= slots)]
    check(tmp_path, m, inputs, depth=18)


def test_summaries_hold(tmp_path):
    """Any heads under the protocol, scores and thresholds of 2 bits, any waits, 12 cycles from reset."""
    m, dut, inputs = bench(3)
    summary, told = dut.summary, dut.summary.payload
    meaningful = Cat(told.masked, told.row, Mux(told.masked, 0, told))
    hold(m, Tap(summary.valid, meaningful, summary.ready), "summary", assume=False)
    check(tmp_path, m, inputs, depth=12)


def test_scores_are_read_back(tmp_path):
    """Any heads under the protocol, scores and thresholds of 2 bits, any modes, any waits, 12 cycles from reset.

    Any score that is kept is read back, with its slot, from its place at its end, for as long as the summary of its
    head waits: nothing overwrote it. Its place is below the number of entries that the summary tells.
    """
    m, dut, inputs = bench(3)
    head, score, summary = dut.head, dut.score, dut.summary

    # One score, picked at any time: number `head_pick` of the unmasked heads, and `place` at its end.
    pick = Signal()
    picked, seen_low, seen_high = Signal(), Signal(4), Signal(4)
    head_pick, place, high = Signal(4), Signal(4), Signal()
    slot, shifted = Signal.like(score.slot), Signal.like(dut.shifted)
    pushed, scored, read = Signal(4), Signal(4), Signal(4)
    thetas = [Signal.like(head.payload.theta, name=f"theta_of_{n}") for n in range(2)]
    modes = [Signal.like(head.payload.mode, name=f"mode_of_{n}") for n in range(2)]
    with m.If(transfer(head) & ~head.payload.value.result.masked):
        m.d.sync += pushed.eq(pushed + 1)
        for n in range(2):
            with m.If(pushed[0] == n):
                m.d.sync += [thetas[n].eq(head.payload.theta), modes[n].eq(head.payload.mode)]
    theta, mode = Mux(scored[0], thetas[1], thetas[0]), Mux(scored[0], modes[1], modes[0])
    above = score.score > theta
    with m.If(score.valid):
        m.d.sync += [seen_low.eq(seen_low + above), seen_high.eq(seen_high + ~above)]
        with m.If(score.last):
            m.d.sync += [seen_low.eq(0), seen_high.eq(0), scored.eq(scored + 1)]
        with m.If(pick & ~picked & (above | (mode != Mode.RELU))):
            m.d.sync += [picked.eq(1), head_pick.eq(scored), high.eq(~above)]
            m.d.sync += [
                place.eq(Mux(above, seen_low, seen_high)),
                slot.eq(score.slot),
                shifted.eq(score.score - theta),
            ]
    ours = summary.valid & ~summary.payload.masked & picked & (read == head_pick)
    with m.If(transfer(summary) & ~summary.payload.masked):
        m.d.sync += read.eq(read + 1)
    with m.If(ours):
        m.d.comb += Assert(place < Mux(high, summary.payload.rest, summary.payload.active))
    with m.If(delayed(m, ours & (dut.index == place) & (dut.high == high), "asked", 2)):
        m.d.comb += [Assert(dut.entry.slot == slot), Assert(dut.entry.shifted == shifted)]
    check(tmp_path, m, [*inputs, dut.index, dut.high, pick], depth=12)
