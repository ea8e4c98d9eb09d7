"""Speed of a system without its attention unit on ECP5: ``python -m reluctant.boards.scheduler_timing [SEEDS]``.

It bounds ``clk`` of a system whose unit has a clock of its own: host registers, mailbox, scheduler and packet gate of
the default system are placed and routed, and what the unit would do comes from pins. Needs the packages of the extra
``boards``.
"""

import sys
import tempfile
from pathlib import Path

from amaranth.hdl import Cat, Module, Signal
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

from .core_timing import measure

__all__ = ["Boxed", "SchedulerSide"]


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


class Boxed(wiring.Component):
    """A component between registers, with two pins: its inputs are a shift register, its outputs are folded."""

    def __init__(self, inner: wiring.Component):
        self.inner = inner
        super().__init__({"pin": In(1), "pout": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = self.inner
        inputs, outputs = [], []
        for _, member, value in self.inner.signature.flatten(self.inner):
            (inputs if member.flow == In else outputs).append(getattr(value, "as_value", lambda value=value: value)())
        shift = Signal(sum(map(len, inputs)))
        m.d.sync += shift.eq(Cat(self.pin, shift))
        m.d.comb += Cat(inputs).eq(shift)
        folded = Signal(sum(map(len, outputs)), name="folded")
        m.d.sync += folded.eq(Cat(outputs))
        while len(folded) > 1:
            parts = [folded[start : start + 4].xor() for start in range(0, len(folded), 4)]
            folded = Signal(len(parts), name="folded")
            m.d.sync += folded.eq(Cat(parts))
        m.d.comb += self.pout.eq(folded)
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
