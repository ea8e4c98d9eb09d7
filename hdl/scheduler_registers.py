"""The registers that the scheduler's core sees: mailbox, events, packets, watchdog."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi_lite import WORD_SHIFT
from .core_bus import SlaveBus, by_fours
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

    A write ends in the cycle after its request, a read one later. What the map does not have, and a write of less than
    a word, is an error and changes nothing.

    Parameters
    ----------
    config
        The system.

    Members
    -------
    bus : In(SlaveBus())
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
                "bus": In(SlaveBus()),
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
        act, right, allowed = Signal(), Signal(), Signal()
        addr, writes = Signal(self.map.address_width - WORD_SHIFT), Signal()
        # The address comes late: what it means is found out in the second cycle. Bits 28 and 29 told that the transfer
        # is for this map.
        beyond = by_fours(bus.addr[len(addr) : 28])
        outside = Signal.like(beyond)
        m.d.sync += act.eq(bus.request)
        with m.If(bus.request):
            m.d.sync += [addr.eq(bus.addr), outside.eq(beyond), writes.eq(bus.write)]
        m.d.sync += self.replies.words.eq(bus.data)
        m.d.comb += right.eq((bus.data != 0) & (bus.data <= MESSAGE_WORDS))
        window, index = addr[INDEX_BITS:], addr[:INDEX_BITS]
        write, result = Signal(), Signal(32, reset_less=True)
        m.d.comb += [
            allowed.eq(~outside.any() & self._allowed(m, addr, writes)),
            bus.ready.eq(~(act & ~writes)),
            bus.word.eq(result),
            bus.error.eq(~allowed),
            write.eq(act & writes & allowed),
            block.addr.eq(index),
            block.data.eq(bus.data),
            block.strobe.eq(0b1111),
            block.write.eq(write & (window == REGISTERS)),
            self.commands.index.eq(bus.addr),
            self.replies.index.eq(index),
            self.replies.data.eq(bus.data),
            self.replies.write.eq(write & (window == REPLY)),
        ]
        m.d.sync += self.replies.send.eq(right & write & (addr == self.map.address("REPLY_SEND") >> WORD_SHIFT))
        with m.If(act):
            m.d.sync += result.eq(Mux(window == COMMAND, self.commands.data, block.word))
        self._connect(m, block)
        return m

    def _allowed(self, m: Module, addr, writes):
        """Whether the map has what the core asks for, and in this direction."""
        readable, writable = Signal(), Signal()
        with m.Switch(addr):
            for register in self.map.registers.values():
                first = register.address >> WORD_SHIFT
                with m.Case(*range(first, first + register.count)):
                    m.d.comb += [readable.eq(register.readable), writable.eq(register.writable)]
        return Mux(writes, writable & self.bus.strobe.all(), readable)

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
