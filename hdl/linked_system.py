"""A system whose host is at the other end of a serial line."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .attention_system import AttentionSystem
from .axi_lite import AxiLiteSignature
from .link_config import LinkConfig
from .register_map import system_map
from .serial_link import SerialLink
from .system_config import SystemConfig

__all__ = ["LinkedSystem"]


class LinkedSystem(wiring.Component):
    """An :class:`AttentionSystem` behind a :class:`SerialLink`: what goes onto a board.

    One clock ``clk``, whose frequency is ``link.clock_hz``, and one synchronous active-high reset ``rst``; with
    ``unit_clock="own"`` also ``unit_clk`` and ``unit_rst``, as :class:`AttentionSystem` has them.

    Parameters
    ----------
    config
        The system.
    firmware
        First bytes of the core's memory.
    link
        The line.

    Members
    -------
    rx : In(1), tx : Out(1)
        As the device sees them.
    led : Out(1)
        A host has spoken since the reset.
    """

    def __init__(self, config: SystemConfig, firmware: bytes, link: LinkConfig):
        self.config, self.firmware, self.link = config, firmware, link
        super().__init__({"rx": In(1, init=1), "tx": Out(1), "led": Out(1)})

    def elaborate(self, platform):
        m = Module()
        lanes, addr_width = self.config.unit.lanes, system_map(self.config).address_width
        m.submodules.system = system = AttentionSystem(self.config, self.firmware)
        m.submodules.link = link = SerialLink(
            self.link, addr_width=addr_width, lanes=lanes, config_hash=self.config.hash
        )
        for name, member in AxiLiteSignature(addr_width).members.items():
            inner, outer = getattr(system, f"s_axil_{name}"), getattr(link.axi, name)
            m.d.comb += inner.eq(outer) if member.flow == Out else outer.eq(inner)
        m.d.comb += [
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            self.led.eq(link.session),
            link.irq.eq(system.irq),
            system.s_axis_tdata.eq(link.o.payload.data),
            system.s_axis_tlast.eq(link.o.payload.last),
            system.s_axis_tvalid.eq(link.o.valid),
            link.o.ready.eq(system.s_axis_tready),
            link.i.payload.data.eq(system.m_axis_tdata),
            link.i.payload.last.eq(system.m_axis_tlast),
            link.i.valid.eq(system.m_axis_tvalid),
            system.m_axis_tready.eq(link.i.ready),
        ]
        return m
