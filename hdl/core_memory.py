"""The memory of the scheduler's core: firmware, data and stack."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .core_bus import SlaveBus, by_fours
from .memory import Ram

__all__ = ["WORD_BYTES", "CoreMemory", "MemoryPort"]

WORD_BYTES = 4


class MemoryPort(wiring.Signature):
    """How the host reaches a memory of ``size`` bytes while the core is held, as the host's side sees it.

    Members
    -------
    addr : Out
        Word address.
    write : Out(1), data : Out(32)
    read_data : In(32)
        The word at ``addr``, 1 cycle of latency; means nothing in the cycle after a write.
    """

    def __init__(self, size: int):
        super().__init__(
            {"addr": Out(ceil_log2(size // WORD_BYTES)), "write": Out(1), "data": Out(32), "read_data": In(32)}
        )


class CoreMemory(wiring.Component):
    """A memory that answers the core in the next cycle; an address behind its end is an error.

    What was written must not be asked for in the very next cycle: the core's fetches ahead may do so, and then get
    something else.

    Parameters
    ----------
    size
        Bytes, a power of two.
    contents
        First bytes at power-up; zeros behind them.

    Members
    -------
    bus : In(SlaveBus())
    held : In(1)
        The memory is the host's; the core must not ask for anything.
    host : In(MemoryPort(size))

    Raises
    ------
    ValueError
        If the contents do not fit.
    """

    def __init__(self, size: int, contents: bytes = b""):
        if len(contents) > size:
            raise ValueError(f"contents are {len(contents)} bytes: at most {size} fit the memory")
        self.depth = size // WORD_BYTES
        padded = contents + bytes(-len(contents) % WORD_BYTES)
        self.words = [
            int.from_bytes(padded[at : at + WORD_BYTES], "little") for at in range(0, len(padded), WORD_BYTES)
        ]
        super().__init__({"bus": In(SlaveBus()), "held": In(1), "host": In(MemoryPort(size))})

    def elaborate(self, platform):
        m = Module()
        bus, host = self.bus, self.host
        m.submodules.ram = ram = Ram(width=32, depth=self.depth, granularity=8, init=self.words)
        # The core's address comes late in its cycle: a write is done in the next one, and so is the look at the end.
        bits = ceil_log2(self.depth)
        beyond = by_fours(bus.addr[bits:])
        writes, address, outside = Signal(), Signal(bits), Signal.like(beyond)
        m.d.sync += writes.eq(bus.request & bus.write)
        with m.If(bus.request):
            m.d.sync += [address.eq(bus.addr), outside.eq(beyond)]
        m.d.comb += [
            bus.ready.eq(1),
            bus.error.eq(outside.any()),
            bus.word.eq(ram.read_data),
            host.read_data.eq(ram.read_data),
            ram.read_addr.eq(Mux(self.held, host.addr, bus.addr)),
            ram.read_en.eq(self.held | bus.request),
            ram.write_addr.eq(Mux(self.held, host.addr, address)),
            ram.write_data.eq(Mux(self.held, host.data, bus.data)),
        ]
        with m.If(self.held):
            m.d.comb += ram.write_en.eq(host.write.replicate(WORD_BYTES))
        with m.Elif(writes & ~bus.error):
            m.d.comb += ram.write_en.eq(bus.strobe)
        return m
