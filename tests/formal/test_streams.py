"""No payload lost, duplicated or reordered, under any stall."""

import pytest
from amaranth.hdl import Assert, Module, Signal

from reluctant.hdl.stream_fifo import StreamFifo

from .harness import check, hold, same_order, transfer


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_fifo_keeps_every_payload_in_order(tmp_path, depth):
    m = Module()
    m.submodules.dut = dut = StreamFifo(4, depth)
    hold(m, dut.i, "i", assume=True)
    hold(m, dut.o, "o", assume=False)
    pick = same_order(m, dut.i, dut.o)
    m.d.comb += Assert(dut.level <= depth)
    check(tmp_path, m, [dut.i.payload, dut.i.valid, dut.o.ready, pick], depth=12)


def test_harness_finds_a_lost_payload(tmp_path):
    m = Module()
    m.submodules.dut = dut = StreamFifo(4, 2)
    hold(m, dut.i, "i", assume=True)
    pick = same_order(m, dut.i, dut.o)
    m.d.comb += Assert(dut.level < 2)
    with pytest.raises(AssertionError, match="FAIL"):
        check(tmp_path, m, [dut.i.payload, dut.i.valid, dut.o.ready, pick], depth=6)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_fifo_loses_count_of_nothing(tmp_path, depth):
    """For runs of every length, by induction: payloads in less payloads out is ``level``, from 0 to ``depth``.

    It takes payloads unless full, and offers one unless empty; with room for one, it offers what it took.
    """
    m = Module()
    m.submodules.dut = dut = StreamFifo(4, depth)
    inside, kept = Signal(range(-1, depth + 2)), Signal(4)
    m.d.sync += inside.eq(inside + transfer(dut.i) - transfer(dut.o))
    with m.If(transfer(dut.i)):
        m.d.sync += kept.eq(dut.i.payload)
    m.d.comb += [
        Assert((inside >= 0) & (inside <= depth)),
        Assert(dut.level == inside),
        Assert(dut.i.ready == (inside != depth)),
        Assert(dut.o.valid == (inside != 0)),
    ]
    if depth == 1:
        m.d.comb += Assert(~dut.o.valid | (dut.o.payload == kept))
    else:
        m.d.comb += [Assert(dut.waits == (dut.behind != 0)), Assert(dut.room == (dut.behind != depth - 1))]
    check(tmp_path, m, [dut.i.payload, dut.i.valid, dut.o.ready], depth=2, mode="prove")
