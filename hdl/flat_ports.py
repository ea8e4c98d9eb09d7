"""Flat AXI ports of a top: the names that an integrator connects."""

from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out

from .axi_lite import AxiLiteSignature

__all__ = ["connect_flat_ports", "flat_ports"]


def flat_ports(addr_width: int, lanes: int) -> dict:
    """Members of a top.

    ``s_axil_*``: AXI4-Lite slave with 32-bit data and ``addr_width`` bits of byte address. ``s_axis_*`` and
    ``m_axis_*``: AXI4-Stream slave and master (tdata, tvalid, tready, tlast) with ``lanes`` bytes a beat. ``irq``: a
    level.
    """
    members = {f"s_axil_{name}": member.flip() for name, member in AxiLiteSignature(addr_width).members.items()}
    for prefix, forward, back in (("s_axis", In, Out), ("m_axis", Out, In)):
        members |= {
            f"{prefix}_tdata": forward(lanes * 8),
            f"{prefix}_tvalid": forward(1),
            f"{prefix}_tready": back(1),
            f"{prefix}_tlast": forward(1),
        }
    return members | {"irq": Out(1)}


def connect_flat_ports(m: Module, top, axi, i, o) -> None:
    """Connect the ports of ``top`` to an AXI-Lite slave interface and two streams whose payload has data and last."""
    for name, member in AxiLiteSignature(len(axi.awaddr)).members.items():
        port, inner = getattr(top, f"s_axil_{name}"), getattr(axi, name)
        m.d.comb += inner.eq(port) if member.flow == Out else port.eq(inner)
    m.d.comb += [
        i.payload.data.eq(top.s_axis_tdata),
        i.payload.last.eq(top.s_axis_tlast),
        i.valid.eq(top.s_axis_tvalid),
        top.s_axis_tready.eq(i.ready),
        top.m_axis_tdata.eq(o.payload.data),
        top.m_axis_tlast.eq(o.payload.last),
        top.m_axis_tvalid.eq(o.valid),
        o.ready.eq(top.m_axis_tready),
    ]
