"""Gains of the RMS normalisers, one per head and element."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from reluctant.golden.formats import GAIN_BITS

from .axi_lite import RegisterBus
from .config import UnitConfig
from .memory import Ram
from .register_map import RegisterMap

__all__ = ["GainTable", "gain_table_bus"]


def gain_table_bus(config: UnitConfig) -> RegisterBus:
    """The bus of a build's gain table: one word a gain. The build has an RMS normaliser."""
    return RegisterBus(bits_for(RegisterMap(config).register("GAIN").count - 1))


class GainTable(wiring.Component):
    """``profiles * heads * head_dim`` gains, read ``normaliser_lanes`` at a time. At power-up every gain is 32.0.

    Parameters
    ----------
    config
        A build with an RMS normaliser.

    Members
    -------
    addr : In(range(profiles * heads * head_dim / N)), with N = ``sizes.normaliser_lanes``
        ``(profile * heads + head) * (head_dim / N) + i``.
    data : Out(N gains, signed(16) each)
        Elements ``N * i ... N * i + N - 1``, 2 cycles after ``addr``, one group a cycle, while ``bus.request`` is low;
        from a register.
    bus : In(RegisterBus)
        One gain a word, in the low half, the high half is ignored and reads 0; the address must be below the number of
        gains. 1 cycle from ``request`` to ``done`` for a write, 3 for a read; never an error. Takes the memory's read
        port, so it may be used only while nobody reads gains.

    Raises
    ------
    ValueError
        If the build has no RMS normaliser.
    """

    latency = 2

    def __init__(self, config: UnitConfig):
        register_map = RegisterMap(config)
        if "GAIN" not in register_map.registers:
            raise ValueError(f"normalisers are {config.normalisers!r}: rms_head or rms_layer is needed")
        self.config = config
        self.count = register_map.register("GAIN").count
        self.init = register_map.fields("GAIN")["value"].reset
        self.lanes = config.sizes.normaliser_lanes
        self.depth = self.count // self.lanes
        super().__init__(
            {
                "addr": In(ceil_log2(self.depth)),
                "data": Out(data.ArrayLayout(signed(GAIN_BITS), self.lanes)),
                "bus": In(gain_table_bus(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus, lane_bits = self.bus, ceil_log2(self.lanes)
        row = sum(self.init << GAIN_BITS * lane for lane in range(self.lanes))
        m.submodules.ram = ram = Ram(
            width=GAIN_BITS * self.lanes, depth=self.depth, granularity=8, init=[row] * self.depth
        )
        group, lane = bus.addr[lane_bits:], bus.addr[:lane_bits]
        held = Signal(GAIN_BITS * self.lanes, reset_less=True)
        idle, reading, there, done = Signal(), Signal(), Signal(), Signal()
        selected, read_data = Signal(GAIN_BITS), Signal(GAIN_BITS, reset_less=True)
        m.d.comb += [
            self.data.as_value().eq(held),
            ram.read_addr.eq(Mux(bus.request, group, self.addr)),
            ram.write_addr.eq(group),
            ram.write_data.eq(bus.data[:GAIN_BITS].replicate(self.lanes)),
            idle.eq(bus.request & ~reading & ~there & ~done),
            selected.eq(held.word_select(lane, GAIN_BITS)),
            bus.done.eq(done),
            bus.read_data.eq(read_data),
        ]
        m.d.sync += [held.eq(ram.read_data), reading.eq(idle & ~bus.write), there.eq(reading)]
        m.d.sync += done.eq(there | (idle & bus.write))
        with m.If(idle & bus.write):
            m.d.comb += [ram.read_en.eq(0), ram.write_en.eq((bus.strobe[:2]) << (lane * 2))]
        with m.If(there):
            m.d.sync += read_data.eq(selected)
        return m
