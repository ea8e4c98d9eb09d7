"""No payload lost, duplicated or reordered, under any stall."""

import pytest
from amaranth.hdl import Assert, Module

from reluctant.hdl.stream_fifo import StreamFifo

from .harness import check, hold, same_order


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_fifo_keeps_every_payload_in_order(tmp_path, depth):
    m = Module()
    m.submodules.dut = dut = StreamFifo(4, depth)
    hold(m, dut.i, "i", assume=True)
    hold(m, dut.o, "o", assume=False)
    pick = same_order(m, dut.i, dut.o)
    m.d.comb += Assert(dut.level <= depth)
    check(tmp_path, m, [dut.i.payload, dut.i.valid, dut.o.ready, pick], depth=14)


def test_harness_finds_a_lost_payload(tmp_path):
    m = Module()
    m.submodules.dut = dut = StreamFifo(4, 2)
    hold(m, dut.i, "i", assume=True)
    pick = same_order(m, dut.i, dut.o)
    m.d.comb += Assert(dut.level < 2)
    with pytest.raises(AssertionError, match="FAIL"):
        check(tmp_path, m, [dut.i.payload, dut.i.valid, dut.o.ready, pick], depth=6)
