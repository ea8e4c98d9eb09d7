"""The unit, with the bus interfaces that a system connects to."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from .attention_unit import AttentionUnit
from .axi_lite import AxiLiteSignature, AxiLiteSlave
from .config import UnitConfig
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
        self.axil = AxiLiteSignature(RegisterMap(config).address_width)
        width = config.lanes * 8
        members = {f"s_axil_{name}": member.flip() for name, member in self.axil.members.items()}
        members |= {
            "s_axis_tdata": In(width),
            "s_axis_tvalid": In(1),
            "s_axis_tready": Out(1),
            "s_axis_tlast": In(1),
            "m_axis_tdata": Out(width),
            "m_axis_tvalid": Out(1),
            "m_axis_tready": In(1),
            "m_axis_tlast": Out(1),
            "irq": Out(1),
        }
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.slave = slave = AxiLiteSlave(self.axil.addr_width)
        m.submodules.unit = unit = AttentionUnit(self.config)
        connect(m, slave.bus, unit.bus)
        for name, member in self.axil.members.items():
            port, inner = getattr(self, f"s_axil_{name}"), getattr(slave.axi, name)
            m.d.comb += inner.eq(port) if member.flow == Out else port.eq(inner)
        m.d.comb += [
            unit.i.payload.data.eq(self.s_axis_tdata),
            unit.i.payload.last.eq(self.s_axis_tlast),
            unit.i.valid.eq(self.s_axis_tvalid),
            self.s_axis_tready.eq(unit.i.ready),
            self.m_axis_tdata.eq(unit.o.payload.data),
            self.m_axis_tlast.eq(unit.o.payload.last),
            self.m_axis_tvalid.eq(unit.o.valid),
            unit.o.ready.eq(self.m_axis_tready),
            self.irq.eq(unit.irq),
        ]
        return m
