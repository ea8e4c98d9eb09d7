"""The memory of keys and values."""

from amaranth.hdl import Module, Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import UnitConfig
from .memory import Ram, SinglePortRam

__all__ = ["KVStore", "store_write"]


def store_write(config: UnitConfig) -> data.StructLayout:
    """One beat on its way into the store."""
    return data.StructLayout({"valid": 1, "addr": range(config.sizes.store_depth), "data": config.lanes * 8})


class KVStore(wiring.Component):
    """All cached rows on chip: ``store_depth`` beats of ``lanes`` bytes.

    Addresses are column-major (:class:`reluctant.hdl.row_appender.RowAppender` says how); the store does not care.
    One read a cycle, its beat 2 cycles later. Writes are taken at once, in any cycle. A beat written in one cycle can
    be read from the next on; reading it in the very cycle of its write gives nothing to rely on.

    With ``config.store == "single"`` the memory has one port and a write takes the read's cycle: ``stall`` says so in
    that cycle, and ``read_en`` must then be low. With ``"block"`` ``stall`` is never high.

    Members
    -------
    read_en : In(1)
    read_addr : In(range(store_depth))
    read_data : Out(lanes * 8)
        Two cycles after ``read_en``.
    write : In(store_write(config))
    stall : Out(1)
        Combinational: a write takes this cycle.
    """

    latency = 2

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        super().__init__(
            {
                "read_en": In(1),
                "read_addr": In(range(sizes.store_depth)),
                "read_data": Out(config.lanes * 8),
                "write": In(store_write(config)),
                "stall": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        kind = SinglePortRam if self.config.store == "single" else Ram
        m.submodules.ram = ram = kind(
            width=self.config.lanes * 8, depth=self.config.sizes.store_depth, latency=self.latency
        )
        write = self.write
        m.d.comb += [
            ram.write_en.eq(write.valid),
            ram.write_data.eq(write.data),
            ram.read_en.eq(self.read_en),
            self.read_data.eq(ram.read_data),
        ]
        if self.config.store == "single":
            m.d.comb += [
                ram.addr.eq(Mux(write.valid, write.addr, self.read_addr)),
                self.stall.eq(write.valid),
            ]
        else:
            m.d.comb += [ram.write_addr.eq(write.addr), ram.read_addr.eq(self.read_addr)]
        return m
