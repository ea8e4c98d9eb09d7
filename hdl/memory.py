"""The one place that makes memories."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .memory_ecp5 import ram as ecp5_ram
from .memory_ice40 import single_port_ram as ice40_single_port_ram
from .technology import vendor_module

__all__ = ["Ram", "SinglePortRam", "SmallRam"]


RAM_BUILDERS = {"ecp5": ecp5_ram}
"""Technologies that instantiate some of their memories: see :func:`reluctant.hdl.technology.vendor_module`."""

SINGLE_PORT_BUILDERS = {"ice40": ice40_single_port_ram}
"""The same for memories with one port."""


class Ram(wiring.Component):
    """One write port and one read port on the same clock.

    A read gives, ``latency`` cycles after ``read_addr`` was presented, the row as it was before that cycle's write.
    Reading an address in the very cycle that writes it is not to be relied on: synthesis is told that it never
    matters. ``read_en`` low holds the memory's own output (latency 1); the output register of latency 2 always moves.

    Parameters
    ----------
    width
        Bits per row.
    depth
        Rows; at least 1 (a memory of one row has one address bit, ignored).
    latency
        1, or 2 with a register behind the memory (block RAM reaches its best clock only so).
    granularity
        Bits written by one bit of ``write_en``; the whole row if absent.
    init
        First rows at power-up; zeros where absent. On an ASIC a memory starts undefined.

    Members
    -------
    write_en, write_addr, write_data : In
    read_en, read_addr : In
    read_data : Out(width)
    """

    def __init__(self, *, width: int, depth: int, latency: int = 1, granularity: int | None = None, init=()):
        if latency not in (1, 2):
            raise ValueError(f"latency is {latency!r}: 1 or 2 is allowed")
        self.width, self.depth, self.latency = width, max(2, depth), latency
        self.granularity = granularity or width
        self.init = init
        super().__init__(
            {
                "write_en": In(width // self.granularity),
                "write_addr": In(ceil_log2(self.depth)),
                "write_data": In(width),
                "read_en": In(1, init=1),
                "read_addr": In(ceil_log2(self.depth)),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform):
        if vendor := vendor_module(RAM_BUILDERS, self, platform):
            return vendor
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(self.width), depth=self.depth, init=self.init)
        partial = self.granularity != self.width
        write = memory.write_port(granularity=self.granularity if partial else None)
        read = memory.read_port()
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            read.en.eq(self.read_en),
            read.addr.eq(self.read_addr),
        ]
        if self.latency == 1:
            m.d.comb += self.read_data.eq(read.data)
        else:
            held = Signal(self.width, reset_less=True)
            m.d.sync += held.eq(read.data)
            m.d.comb += self.read_data.eq(held)
        return m


class SinglePortRam(wiring.Component):
    """One port: each cycle reads or writes, so that single-port SRAM (and iCE40's SPRAM) can hold it.

    A write takes the cycle's read. ``read_data`` follows a read by ``latency`` cycles; at latency 1 it stays while
    there is neither read nor write, and is not to be relied on behind a write. The output register of latency 2 always
    moves.

    Parameters
    ----------
    width
        Bits per row.
    depth
        Rows; at least 1 (a memory of one row has one address bit, ignored).
    latency
        1, or 2 with a register behind the memory.
    granularity
        Bits written by one bit of ``write_en``; the whole row if absent.

    Members
    -------
    write_en : In, write_data : In(width)
    read_en : In(1), ignored while ``write_en`` is high
    addr : In, of the read or the write
    read_data : Out(width)

    Raises
    ------
    ValueError
        If ``latency`` is neither 1 nor 2.
    """

    def __init__(self, *, width: int, depth: int, latency: int = 1, granularity: int | None = None):
        if latency not in (1, 2):
            raise ValueError(f"latency is {latency!r}: 1 or 2 is allowed")
        self.width, self.depth, self.latency = width, max(2, depth), latency
        self.granularity = granularity or width
        super().__init__(
            {
                "write_en": In(width // self.granularity),
                "write_data": In(width),
                "read_en": In(1, init=1),
                "addr": In(ceil_log2(self.depth)),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform):
        if vendor := vendor_module(SINGLE_PORT_BUILDERS, self, platform):
            return vendor
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(self.width), depth=self.depth, init=())
        partial = self.granularity != self.width
        write = memory.write_port(granularity=self.granularity if partial else None)
        read = memory.read_port()
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.addr),
            write.data.eq(self.write_data),
            read.en.eq(self.read_en & ~self.write_en.any()),
            read.addr.eq(self.addr),
        ]
        if self.latency == 1:
            m.d.comb += self.read_data.eq(read.data)
        else:
            held = Signal(self.width, reset_less=True)
            m.d.sync += held.eq(read.data)
            m.d.comb += self.read_data.eq(held)
        return m


class SmallRam(wiring.Component):
    """A few rows in LUT RAM, or in registers: one write port, one read port without latency.

    Parameters
    ----------
    width
        Bits per row.
    depth
        Rows, at least 2.

    Members
    -------
    write_en : In(1), write_addr : In, write_data : In(width)
    read_addr : In, read_data : Out(width)
        Combinational: the row as it was before this cycle's write.
    """

    def __init__(self, *, width: int, depth: int):
        self.width, self.depth = width, depth
        addr = range(depth)
        super().__init__(
            {
                "write_en": In(1),
                "write_addr": In(addr),
                "write_data": In(width),
                "read_addr": In(addr),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(self.width), depth=self.depth, init=())
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            read.addr.eq(self.read_addr),
            self.read_data.eq(read.data),
        ]
        return m
