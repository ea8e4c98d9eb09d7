"""The AXI4-Lite slave: exactly one response for each request, held until taken, in a bounded time."""

from amaranth.hdl import Assert, Assume, Cat, Module, Signal

from reluctant.hdl.axi_lite import AxiLiteSlave

from .harness import Tap, check, delayed, hold, same_order, streak, transfer

BUS_CYCLES = 1
"""Cycles in which the bus behind the slave may make a request wait."""
ANSWER = 2 * (BUS_CYCLES + 1) + 4
"""Cycles from a whole request, its response channel free, to the response: one access of the other kind goes before."""


def _channel(axi, prefix, *fields) -> Tap:
    valid, ready = getattr(axi, f"{prefix}valid"), getattr(axi, f"{prefix}ready")
    return Tap(valid, Cat(*(getattr(axi, f"{prefix}{field}") for field in fields)), ready)


def test_every_request_is_answered_once(tmp_path):
    """Any requests, waits of the master on all channels and waits of the bus up to 1 cycle, 16 cycles from reset.

    B comes once for each pair of AW and W, R once for each AR; both hold until taken; each tells the error of the
    access that it belongs to, and R its data; accesses reach the bus in the order of each kind, with address, data and
    strobes of their own requests. A request that is complete while the master takes responses of its kind is
    answered within 8 cycles, whatever becomes of responses of the other kind.
    """
    m = Module()
    m.submodules.dut = dut = AxiLiteSlave(4)
    axi, bus = dut.axi, dut.bus
    aw, w, ar = _channel(axi, "aw", "addr"), _channel(axi, "w", "data", "strb"), _channel(axi, "ar", "addr")
    b, r = _channel(axi, "b", "resp"), _channel(axi, "r", "data", "resp")
    for name, channel in (("aw", aw), ("w", w), ("ar", ar)):
        hold(m, channel, name, assume=True)
    for name, channel in (("b", b), ("r", r)):
        hold(m, channel, name, assume=False)
    done = bus.request & bus.done
    writes, reads = Tap(done & bus.write, bus.addr), Tap(done & ~bus.write, bus.addr)
    m.d.comb += Assume((streak(m, bus.request & ~bus.done, "bus") < BUS_CYCLES) | bus.done)
    data_was, read_was = delayed(m, bus.read_data, "data"), Signal()  # data stays between two reads
    m.d.sync += read_was.eq(done & ~bus.write | (read_was & ~(bus.request & ~bus.write)))
    with m.If(read_was & ~(bus.request & ~bus.write)):
        m.d.comb += Assume(bus.read_data == data_was)
    hold(m, Tap(bus.request, Cat(bus.write, bus.addr), bus.done), "bus", assume=False)
    with m.If(delayed(m, done, "done")):
        m.d.comb += Assert(~bus.request)
    error = Cat(0, bus.error)
    picks = [
        same_order(m, Tap(transfer(aw), axi.awaddr[2:]), writes, name="aw_bus"),
        same_order(m, w, Tap(writes.valid, Cat(bus.data, bus.strobe)), name="w_bus"),
        same_order(m, Tap(writes.valid, error), b, name="b"),
        same_order(m, Tap(reads.valid, Cat(bus.read_data, error)), r, name="r"),
    ]
    asked = Signal(4)  # reads asked and not answered: AR passes a cycle after its address is taken
    read_begins = bus.request & ~bus.write & ~delayed(m, bus.request, "begun")
    m.d.sync += asked.eq(asked + transfer(ar) - transfer(r))
    with m.If(read_begins):
        m.d.comb += [Assert(transfer(ar)), Assert(bus.addr == axi.araddr[2:])]
    m.d.comb += Assert(axi.arready == read_begins)
    full = [Signal(2, name=f"{name}_full") for name in ("aw", "w")]
    for count, channel in zip(full, (aw, w), strict=True):
        m.d.sync += count.eq(count + transfer(channel) - transfer(b))
        m.d.comb += [Assert(count <= 2), Assert(~axi.bvalid | (count != 0))]
    m.d.comb += Assert(~axi.rvalid | (asked != 0))
    whole = (full[0] != 0) & (full[1] != 0)
    m.d.comb += [
        Assert(streak(m, whole & axi.bready & ~axi.bvalid, "write") < ANSWER),
        Assert(streak(m, (axi.arvalid | (asked != 0)) & axi.rready & ~axi.rvalid, "read") < ANSWER),
    ]
    check(
        tmp_path,
        m,
        [
            *(axi.awaddr, axi.awvalid, axi.wdata, axi.wstrb, axi.wvalid, axi.bready),
            *(axi.araddr, axi.arvalid, axi.rready, bus.done, bus.error, bus.read_data, *picks),
        ],
        depth=16,
    )
