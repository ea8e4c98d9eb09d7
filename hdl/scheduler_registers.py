"""The registers that the scheduler's core sees: mailbox, events, packets, watchdog."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi_lite import WORD_SHIFT
from .core_bus import CoreBus
from .mailbox import INDEX_BITS, MessageReader, MessageWriter
from .messages import MESSAGE_WORDS
from .register_block import RegisterBlock
from .register_map import scheduler_map
from .system_config import SystemConfig

__all__ = ["SchedulerRegisters"]

REGISTERS, COMMAND, REPLY = range(3)
"""Windows of the map, ``MESSAGE_WORDS`` words each."""


class SchedulerRegisters(wiring.Component):
    """The map ``scheduler`` of ``system_registers.rdl`` behind the core's bus.

    Every transfer takes two cycles. What the map does not have, and a write of less than a word, is an error and
    changes nothing.

    Parameters
    ----------
    config
        The system.

    Members
    -------
    bus : In(CoreBus())
    commands : Out(MessageReader), replies : Out(MessageWriter)
    finished : In(1)
        One cycle: a job ended. Sets EVENTS.job, which the firmware clears.
    can_drop, timeout : In(1)
        Of the packet gate.
    drop, abort, forget : Out(1)
        One cycle, the one after the transfer: to the packet gate's ``drop``, ``abort`` and ``reset``.
    patience : Out(5)
    kick, restart : Out(1)
        One cycle, the one after the transfer: a sign of life; the core wants to be restarted.
    cause : In(2)
        Why the core started.
    interrupt : Out(1)
        Level: an enabled event is there; 2 cycles late.
    """

    def __init__(self, config: SystemConfig):
        self.map = scheduler_map(config)
        super().__init__(
            {
                "bus": In(CoreBus()),
                "commands": Out(MessageReader(config.messages)),
                "replies": Out(MessageWriter(config.messages)),
                "finished": In(1),
                "can_drop": In(1),
                "timeout": In(1),
                "drop": Out(1),
                "abort": Out(1),
                "forget": Out(1),
                "patience": Out(5),
                "kick": Out(1),
                "restart": Out(1),
                "cause": In(2),
                "interrupt": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        m.submodules.block = block = RegisterBlock(self.map)
        act, refused, right, addr = Signal(), Signal(), Signal(), Signal(self.map.address_width - WORD_SHIFT)
        # The core may be reset between the two cycles: then it no longer asks, and nothing is done.
        m.d.sync += [act.eq(bus.request & ~act), addr.eq(bus.addr), refused.eq(~self._allowed(m))]
        m.d.sync += [self.replies.words.eq(bus.data), right.eq((bus.data != 0) & (bus.data <= MESSAGE_WORDS))]
        window, index = addr[INDEX_BITS:], addr[:INDEX_BITS]
        write, result = Signal(), Signal(32, reset_less=True)
        m.d.comb += [
            bus.ready.eq(act),
            bus.read_data.eq(result),
            bus.error.eq(refused),
            write.eq(act & bus.request & bus.write & ~refused),
            block.addr.eq(index),
            block.data.eq(bus.data),
            block.strobe.eq(0b1111),
            block.write.eq(write & (window == REGISTERS)),
            self.commands.index.eq(bus.addr),
            self.replies.index.eq(index),
            self.replies.data.eq(bus.data),
            self.replies.write.eq(write & (window == REPLY)),
        ]
        with m.If(write & (addr == self.map.address("REPLY_SEND") >> WORD_SHIFT)):
            m.d.comb += self.replies.send.eq(right)
        with m.If(act):
            m.d.sync += result.eq(Mux(window == COMMAND, self.commands.data, block.word))
        self._connect(m, block)
        return m

    def _allowed(self, m: Module):
        """Whether the map has what the core asks for, and in this direction; a cycle before it is used."""
        bus, bits = self.bus, self.map.address_width - WORD_SHIFT
        readable, writable = Signal(), Signal()
        with m.Switch(bus.addr[:bits]):
            for register in self.map.registers.values():
                first = register.address >> WORD_SHIFT
                with m.Case(*range(first, first + register.count)):
                    m.d.comb += [readable.eq(register.readable), writable.eq(register.writable)]
        # Bits 28 and 29 of the word address told that the transfer is for this map.
        return ~bus.addr[bits:28].any() & Mux(bus.write, writable & bus.strobe.all(), readable)

    def _connect(self, m: Module, block: RegisterBlock):
        status, pulses = block.status, block.pulses
        job = Signal()
        m.d.sync += [
            job.eq(self.finished | (job & ~pulses.EVENT_CLEAR.clear)),
            self.drop.eq(pulses.GATE_DROP.drop),
            self.abort.eq(pulses.GATE_ABORT.abort),
            self.forget.eq(pulses.GATE_RESET.reset),
            self.kick.eq(pulses.WATCHDOG.kick),
            self.restart.eq(pulses.RESTART.restart),
            self.interrupt.eq((status.EVENTS.as_value() & block.values.EVENT_ENABLE.mask).any()),
        ]
        m.d.comb += [
            status.COMMAND_STATUS.count.eq(self.commands.count),
            status.COMMAND_STATUS.words.eq(self.commands.words),
            self.commands.take.eq(pulses.COMMAND_TAKE.take),
            status.REPLY_STATUS.room.eq(self.replies.room),
            status.EVENTS.command.eq(self.commands.count != 0),
            status.EVENTS.room.eq(self.replies.room != 0),
            status.EVENTS.job.eq(job),
            status.EVENTS.timeout.eq(self.timeout),
            status.EVENTS.gate.eq(self.can_drop),
            status.START_CAUSE.cause.eq(self.cause),
            self.patience.eq(block.values.GATE_TIMEOUT.value),
        ]
