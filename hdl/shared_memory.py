"""The memory of the scheduler's core, in a part of the unit's store."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .core_bus import SlaveBus, by_fours
from .core_memory import WORD_BYTES, MemoryPort

__all__ = ["SharedMemory", "StorePort"]


class StorePort(wiring.Signature):
    """The way to ``size`` bytes in the store of a unit, as their owner sees it.

    Members
    -------
    take : Out(1)
        The store's port is the owner's in this cycle; the unit waits. From a register.
    write_en : Out(4), write_data : Out(32)
        Bytes to write; without any, a word is read.
    ask : Out(1), addr : Out, rest : Out
        The address of that word: ``addr`` while ``ask``, else ``rest``. ``addr`` may come late in its cycle; ``ask``
        comes from a register, and is low without ``take``.
    read_en : Out(1)
        May come late.
    read_data : In(32)
        The word read, from the next cycle on, as long as the port is taken and nothing else is read or written.
    """

    def __init__(self, size: int):
        address = Out(ceil_log2(size // WORD_BYTES))
        super().__init__(
            {
                "take": Out(1),
                "write_en": Out(WORD_BYTES),
                "write_data": Out(8 * WORD_BYTES),
                "ask": Out(1),
                "addr": address,
                "rest": address,
                "read_en": Out(1),
                "read_data": In(8 * WORD_BYTES),
            }
        )


class SharedMemory(wiring.Component):
    """What :class:`~reluctant.hdl.core_memory.CoreMemory` is, in the store: it starts undefined, so the host loads it.

    A read ends in the cycle after its request, a write one later: it is done in between, and the store has one port.

    The store is the core's while the core is awake, held or in reset, and the unit's while the core sleeps, a cycle
    late each time. Behind the unit's reads the word that waits for the core is gone: before the core wakes it is read
    once more.

    Parameters
    ----------
    size
        Bytes, a power of two.

    Members
    -------
    bus : In(SlaveBus()), held : In(1), host : In(MemoryPort(size))
        As of :class:`~reluctant.hdl.core_memory.CoreMemory`; ``host`` from 2 cycles behind ``held`` on.
    asks : In(1)
        The core begins a transfer, with this memory or anything else: the upper bits of its address come late.
    sleeping : In(1)
        Of the core.
    wake : In(1), awake : Out(1)
        The interrupt, and the same for the core: 2 cycles later if it sleeps.
    store : Out(StorePort(size))
    """

    def __init__(self, size: int):
        self.depth = size // WORD_BYTES
        super().__init__(
            {
                "bus": In(SlaveBus()),
                "held": In(1),
                "host": In(MemoryPort(size)),
                "asks": In(1),
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
        beyond = by_fours(bus.addr[bits:])
        outside, latest = Signal.like(beyond), Signal(bits, reset_less=True)
        owns, owned, again = Signal(init=1), Signal(init=1), Signal()
        writes = Signal()  # what was asked for a cycle ago is a write
        m.d.comb += [
            bus.ready.eq(owns & owned & ~writes),
            bus.error.eq(outside.any()),
            bus.word.eq(store.read_data),
            host.read_data.eq(store.read_data),
            store.take.eq(owns),
            # What is not asked for here does no harm: no word that was read is needed after any transfer has begun.
            store.ask.eq(bus.ready & ~self.held),
            store.read_en.eq(self.asks | ~store.ask),
            store.addr.eq(bus.addr),
            store.rest.eq(Mux(self.held, host.addr, latest)),
            store.write_data.eq(Mux(self.held, host.data, bus.data)),
            self.awake.eq(self.wake & (again | ~self.sleeping)),
        ]
        m.d.sync += [
            owns.eq(self.wake | ~self.sleeping | self.held),
            owned.eq(owns),
            again.eq(self.wake & owns),
            writes.eq(bus.request & bus.write),
        ]
        with m.If(self.asks):
            m.d.sync += [latest.eq(bus.addr), outside.eq(beyond)]
        with m.If(self.held):
            m.d.comb += store.write_en.eq(host.write.replicate(WORD_BYTES))
        with m.Elif(writes & ~bus.error):
            m.d.comb += store.write_en.eq(bus.strobe)
        return m
