"""The system: the attention unit, the scheduler that runs it, and what the host sees of both."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect

from .attention_unit import AttentionUnit
from .flat_ports import connect_flat_ports, flat_ports
from .host_registers import HostRegisters
from .mailbox import Mailbox
from .packet_gate import PacketGate
from .register_map import system_map
from .result_gate import ResultGate
from .scheduler import Scheduler
from .system_config import SystemConfig
from .unit_domain import UnitDomain

__all__ = ["AttentionSystem"]


class AttentionSystem(wiring.Component):
    """Attention with a KV policy: the host sends commands and packets, and takes replies and results.

    One clock ``clk``, one synchronous active-high reset ``rst``. With ``unit_clock="own"`` the attention unit is in
    clock domain ``unit``, in Verilog ports ``unit_clk`` and ``unit_rst``, and all ports below are on ``clk`` all the
    same; of the resets see :class:`~reluctant.hdl.unit_domain.UnitDomain`. Port names in Verilog are those below, the
    same as the unit's. What the host writes and reads is in the generated register page, what commands mean in
    ``messages.py``; packets and results are the unit's.

    Parameters
    ----------
    config
        What to build.
    firmware
        First bytes of the core's memory. Without firmware, and with shared memory, the host must hold the core and load
        it; with shared memory it is held at power-up.

    Members
    -------
    s_axil_* : AXI4-Lite slave, 32-bit data, address width of :func:`system_map`
    s_axis_tdata (lanes * 8), s_axis_tvalid, s_axis_tready, s_axis_tlast : AXI4-Stream slave
    m_axis_tdata (lanes * 8), m_axis_tvalid, m_axis_tready, m_axis_tlast : AXI4-Stream master
    irq : level
    """

    def __init__(self, config: SystemConfig, firmware: bytes = b""):
        self.config, self.firmware = config, firmware
        super().__init__(flat_ports(system_map(config).address_width, config.unit.lanes))

    def elaborate(self, platform):
        m, config = Module(), self.config
        m.submodules.host = host = HostRegisters(config)
        m.submodules.mailbox = mailbox = Mailbox(config.messages)
        m.submodules.scheduler = scheduler = Scheduler(config, self.firmware)
        m.submodules.gate = gate = PacketGate(config.unit)
        own = config.unit_clock == "own"
        m.submodules.unit = unit = (UnitDomain if own else AttentionUnit)(config.unit)
        results = unit if own else ResultGate(config.unit)
        if not own:
            m.submodules.results = results
        connect_flat_ports(m, self, host.axi, gate.i, results.o)
        connect(m, host.commands, mailbox.command_writer)
        connect(m, host.replies, mailbox.reply_reader)
        connect(m, scheduler.commands, mailbox.command_reader)
        connect(m, scheduler.replies, mailbox.reply_writer)
        connect(m, host.memory, scheduler.memory)
        connect(m, scheduler.unit, unit.bus)
        if config.unit.shared_memory:
            connect(m, scheduler.store, unit.memory)
        connect(m, gate.o, unit.i)
        if not own:
            connect(m, unit.o, results.i)
        m.d.comb += [
            scheduler.hold.eq(host.hold),
            scheduler.cold.eq(host.cold),
            scheduler.restart.eq(host.restart),
            scheduler.finished.eq(unit.finished),
            scheduler.can_drop.eq(gate.can_drop),
            scheduler.timeout.eq(gate.timeout),
            gate.started.eq(unit.started),
            gate.waiting.eq(unit.waiting),
            gate.flush.eq(host.flush),
            *(getattr(gate, name).eq(scheduler.gate[name]) for name, _ in scheduler.gate.shape()),
            results.reset.eq(scheduler.gate.reset),
            host.held.eq(scheduler.held),
            host.sleeping.eq(scheduler.sleeping),
            host.cause.eq(scheduler.cause),
            host.bitten.eq(scheduler.bitten),
            host.trapped.eq(scheduler.trapped),
            host.busy.eq(unit.busy),
            host.packet.eq(gate.packet),
            host.dropped.eq(gate.dropped),
            self.irq.eq(host.irq),
        ]
        return m
