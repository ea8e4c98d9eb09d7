"""The unit, with the bus interfaces that a system connects to."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect

from .attention_unit import AttentionUnit
from .axi_lite import AxiLiteSlave
from .config import UnitConfig
from .flat_ports import connect_flat_ports, flat_ports
from .register_map import RegisterMap

__all__ = ["SparseAttentionUnit"]


class SparseAttentionUnit(wiring.Component):
    """The sparse attention unit: AXI4-Lite control, AXI4-Stream in and out, an interrupt.

    One clock ``clk``, one synchronous active-high reset ``rst``. Port names in Verilog are those below. The protocol
    (jobs, packets, results) is in ``docs/design.md``, the registers in the generated register page.

    Parameters
    ----------
    config
        What to build.

    Members
    -------
    s_axil_* : AXI4-Lite slave, 32-bit data, address width of :class:`RegisterMap`
    s_axis_tdata (lanes * 8), s_axis_tvalid, s_axis_tready, s_axis_tlast : AXI4-Stream slave
    m_axis_tdata (lanes * 8), m_axis_tvalid, m_axis_tready, m_axis_tlast : AXI4-Stream master
    irq : level
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        self.addr_width = RegisterMap(config).address_width
        super().__init__(flat_ports(self.addr_width, config.lanes))

    def elaborate(self, platform):
        m = Module()
        m.submodules.slave = slave = AxiLiteSlave(self.addr_width)
        m.submodules.unit = unit = AttentionUnit(self.config)
        connect(m, slave.bus, unit.bus)
        connect_flat_ports(m, self, slave.axi, unit.i, unit.o)
        m.d.comb += self.irq.eq(unit.irq)
        return m
