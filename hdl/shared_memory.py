"""The memory of the scheduler's core, in a part of the unit's store."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .core_bus import CoreBus
from .core_memory import WORD_BYTES, MemoryPort

__all__ = ["SharedMemory", "StorePort"]


class StorePort(wiring.Signature):
    """The way to ``size`` bytes in the store of a unit, as their owner sees it.

    Members
    -------
    take : Out(1)
        The store's port is the owner's in this cycle; the unit waits.
    write_en : Out(4), addr : Out, write_data : Out(32)
        Bytes to write of the word at ``addr``; without any, it is read.
    read_data : In(32)
        The word read, in the next cycle, and as long as the port is the owner's and nothing is written.
    """

    def __init__(self, size: int):
        super().__init__(
            {
                "take": Out(1),
                "write_en": Out(WORD_BYTES),
                "addr": Out(ceil_log2(size // WORD_BYTES)),
                "write_data": Out(8 * WORD_BYTES),
                "read_data": In(8 * WORD_BYTES),
            }
        )


class SharedMemory(wiring.Component):
    """What :class:`~reluctant.hdl.core_memory.CoreMemory` is, in the store: it starts undefined, so the host loads it.

    The store is the core's while the core is awake, held or in reset, and the unit's while the core sleeps. Behind the
    unit's reads the word that waits for the core is gone: before the core wakes it is read once more.

    Parameters
    ----------
    size
        Bytes, a power of two.

    Members
    -------
    bus : In(CoreBus()), held : In(1), host : In(MemoryPort(size))
        As of :class:`~reluctant.hdl.core_memory.CoreMemory`.
    sleeping : In(1)
        Of the core.
    wake : In(1), awake : Out(1)
        The interrupt, and the same for the core, a cycle later.
    store : Out(StorePort(size))
    """

    def __init__(self, size: int):
        self.depth = size // WORD_BYTES
        super().__init__(
            {
                "bus": In(CoreBus()),
                "held": In(1),
                "host": In(MemoryPort(size)),
                "sleeping": In(1),
                "wake": In(1),
                "awake": Out(1),
                "store": Out(StorePort(size)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus, host, store = self.bus, self.host, self.store
        bits = ceil_log2(self.depth)
        outside = bus.addr[bits:] != 0
        latest = Signal(bits, reset_less=True)
        again = Signal()
        reads = bus.request & ~bus.write
        m.d.comb += [
            bus.ready.eq(1),
            bus.error.eq(outside),
            bus.read_data.eq(store.read_data),
            host.read_data.eq(store.read_data),
            store.take.eq(self.wake | ~self.sleeping | bus.request | self.held),
            store.addr.eq(Mux(self.held, host.addr, Mux(bus.request, bus.addr, latest))),
            store.write_data.eq(Mux(self.held, host.data, bus.data)),
            self.awake.eq(self.wake & (again | ~self.sleeping)),
        ]
        m.d.sync += again.eq(self.wake)
        with m.If(reads):
            m.d.sync += latest.eq(bus.addr)
        with m.If(self.held):
            m.d.comb += store.write_en.eq(host.write.replicate(WORD_BYTES))
        with m.Elif(bus.request & bus.write & ~outside):
            m.d.comb += store.write_en.eq(bus.strobe)
        return m
