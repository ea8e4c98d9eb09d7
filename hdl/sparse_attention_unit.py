"""The unit, with the bus interfaces that a system connects to."""

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from .attention_core import AttentionCore
from .axi_lite import AxiLiteSignature
from .config import UnitConfig
from .control_registers import ControlRegisters
from .gain_table import GainTable
from .head_table import HeadTable
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
        m, config = Module(), self.config
        m.submodules.control = control = ControlRegisters(config)
        m.submodules.head_table = heads = HeadTable(config)
        core = AttentionCore(config)
        m.submodules.core = ResetInserter(control.soft_reset)(core)
        self._connect_ports(m, control, core)
        connect(m, control.job, core.job)
        connect(m, control.head_table, heads.bus)
        m.d.comb += [
            control.busy.eq(core.busy),
            control.errors.eq(core.errors),
            control.finished.eq(core.finished),
            control.events.eq(core.events),
            heads.addr.eq(core.settings_addr),
            core.settings.eq(heads.entry),
            self.irq.eq(control.irq),
        ]
        if control.has_gains:
            m.submodules.gain_table = gains = GainTable(config)
            connect(m, control.gain_table, gains.bus)
            m.d.comb += [gains.addr.eq(core.gain_addr), core.gain_data.eq(gains.data)]
        if config.statistics:
            connect(m, control.peek, core.peek)
            connect(m, core.peeked, control.peeked)
        return m

    def _connect_ports(self, m: Module, control: ControlRegisters, core: AttentionCore):
        for name, member in self.axil.members.items():
            port, inner = getattr(self, f"s_axil_{name}"), getattr(control.axi, name)
            m.d.comb += inner.eq(port) if member.flow == Out else port.eq(inner)
        m.d.comb += [
            core.i.payload.data.eq(self.s_axis_tdata),
            core.i.payload.last.eq(self.s_axis_tlast),
            core.i.valid.eq(self.s_axis_tvalid),
            self.s_axis_tready.eq(core.i.ready),
            self.m_axis_tdata.eq(core.o.payload.data),
            self.m_axis_tlast.eq(core.o.payload.last),
            self.m_axis_tvalid.eq(core.o.valid),
            core.o.ready.eq(self.m_axis_tready),
        ]
