"""Speed of a system without its attention unit on ECP5: ``python -m reluctant.boards.scheduler_timing [SEEDS]``.

It bounds ``clk`` of a system whose unit has a clock of its own: host registers, mailbox, scheduler and packet gate of
the default system are placed and routed, and what the unit would do comes from pins. Needs the packages of the extra
``boards``.
"""

import sys
import tempfile
from pathlib import Path

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from reluctant.hdl.axi_lite import WORD_SHIFT, AxiLiteSignature, RegisterBus
from reluctant.hdl.host_registers import HostRegisters
from reluctant.hdl.mailbox import Mailbox
from reluctant.hdl.packet_gate import PacketGate, host_beat
from reluctant.hdl.register_map import RegisterMap, system_map
from reluctant.hdl.row_loader import input_beat
from reluctant.hdl.scheduler import Scheduler
from reluctant.hdl.system_config import SystemConfig

from .core_timing import Boxed, measure

__all__ = ["SchedulerSide"]


class SchedulerSide(wiring.Component):
    """An AttentionSystem without its unit: members are those of the unit, and the host's."""

    def __init__(self, config: SystemConfig):
        self.config = config
        super().__init__(
            {
                "axi": In(AxiLiteSignature(system_map(config).address_width)),
                "i": In(stream.Signature(host_beat(config.unit))),
                "o": Out(stream.Signature(input_beat(config.unit))),
                "unit": Out(RegisterBus(RegisterMap(config.unit).address_width - WORD_SHIFT)),
                "started": In(1),
                "finished": In(1),
                "waiting": In(1),
                "busy": In(1),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform):
        m, config = Module(), self.config
        m.submodules.host = host = HostRegisters(config)
        m.submodules.mailbox = mailbox = Mailbox(config.messages)
        m.submodules.scheduler = scheduler = Scheduler(config)
        m.submodules.gate = gate = PacketGate(config.unit)
        connect(m, flipped(self.axi), host.axi)
        connect(m, flipped(self.i), gate.i)
        connect(m, gate.o, flipped(self.o))
        connect(m, scheduler.unit, flipped(self.unit))
        connect(m, host.commands, mailbox.command_writer)
        connect(m, host.replies, mailbox.reply_reader)
        connect(m, scheduler.commands, mailbox.command_reader)
        connect(m, scheduler.replies, mailbox.reply_writer)
        connect(m, host.memory, scheduler.memory)
        m.d.comb += [
            scheduler.hold.eq(host.hold),
            scheduler.cold.eq(host.cold),
            scheduler.restart.eq(host.restart),
            scheduler.finished.eq(self.finished),
            scheduler.can_drop.eq(gate.can_drop),
            scheduler.timeout.eq(gate.timeout),
            gate.started.eq(self.started),
            gate.waiting.eq(self.waiting),
            gate.flush.eq(host.flush),
            *(getattr(gate, name).eq(scheduler.gate[name]) for name, _ in scheduler.gate.shape()),
            host.held.eq(scheduler.held),
            host.sleeping.eq(scheduler.sleeping),
            host.cause.eq(scheduler.cause),
            host.bitten.eq(scheduler.bitten),
            host.trapped.eq(scheduler.trapped),
            host.busy.eq(self.busy),
            host.packet.eq(gate.packet),
            host.dropped.eq(gate.dropped),
            self.irq.eq(host.irq),
        ]
        return m


def main() -> None:
    """Measure and print; the critical path of the best seed too."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.txt"
        numbers = measure(Boxed(SchedulerSide(SystemConfig())), "ecp5", seeds=seeds, report=report)
        print(*(f"{name} {value:,}" for name, value in numbers.items()))
        path = [line for line in report.read_text().splitlines() if "Source" in line or "Sink" in line]
        print("\n".join(path[:1] + path[-1:]))


if __name__ == "__main__":
    main()
