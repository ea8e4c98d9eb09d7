"""The registers that the host of a system sees: control, mailbox, the core's memory, counters, interrupt."""

from dataclasses import replace

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .axi_lite import WORD_SHIFT, AxiLiteSignature, AxiLiteSlave
from .core_memory import MemoryPort
from .mailbox import INDEX_BITS, MessageReader, MessageWriter
from .messages import MESSAGE_WORDS
from .performance_counters import SYSTEM_COUNTER_BITS, PerformanceCounters
from .register_block import RegisterBlock
from .register_map import system_map
from .system_config import SystemConfig

__all__ = ["HostRegisters"]

REGISTERS, COMMAND, REPLY = range(3)
"""Windows of the map, ``MESSAGE_WORDS`` words each."""
ACCESS_ERRORS = ("bad_address", "bad_send", "no_reply", "not_held")


class HostRegisters(wiring.Component):
    """An AXI4-Lite slave behind which is the map ``sparse_attention_system`` of ``system_registers.rdl``.

    What answers SLVERR changes nothing but an error bit; a refused read gives 0. One read and one write may be
    outstanding, and every access ends: within 8 cycles of its handshakes if no other is under way, plus for the low
    half of a counter ``PerformanceCounters.longest_read``.

    Parameters
    ----------
    config
        The system.

    Members
    -------
    axi : In(AxiLiteSignature(address width of the map))
    commands : Out(MessageWriter), replies : Out(MessageReader)
        To the mailbox.
    memory : Out(MemoryPort(config.memory))
    hold, cold : Out(1)
        Levels, as in the register CONTROL.
    restart, flush : Out(1)
        One cycle; ``cold`` is then as it was written with ``restart``.
    held, sleeping, busy, packet : In(1), cause : In(2)
        As in the register STATUS.
    bitten, trapped : In(1)
        One cycle: the watchdog, or the firmware, restarts the core.
    dropped : In(1)
        One cycle: a packet was dropped.
    irq : Out(1)
        Level: an enabled bit of IRQ_STATUS is set.
    """

    def __init__(self, config: SystemConfig):
        self.config, self.map = config, system_map(config)
        super().__init__(
            {
                "axi": In(AxiLiteSignature(self.map.address_width)),
                "commands": Out(MessageWriter(config.messages)),
                "replies": Out(MessageReader(config.messages)),
                "memory": Out(MemoryPort(config.memory)),
                "hold": Out(1),
                "cold": Out(1),
                "restart": Out(1),
                "flush": Out(1),
                "held": In(1),
                "sleeping": In(1),
                "busy": In(1),
                "packet": In(1),
                "cause": In(2),
                "bitten": In(1),
                "trapped": In(1),
                "dropped": In(1),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.slave = slave = AxiLiteSlave(self.map.address_width)
        m.submodules.block = block = RegisterBlock(self.map)
        bits = self.config.unit.counter_bits or SYSTEM_COUNTER_BITS
        counters = PerformanceCounters(replace(self.config.unit, counter_bits=bits), self.map)
        m.submodules.counters = counters
        connect(m, flipped(self.axi), slave.axi)
        bus = slave.bus
        errors = self._status(m, block)
        self._count(m, counters)
        target = self._decode(m, bus, block, counters)
        result, address = Signal(32, reset_less=True), Signal(WORD_SHIFT + len(self.memory.addr))
        word = Signal(32, reset_less=True)  # of a message or of the core's memory, registered as it is late in a cycle
        m.d.sync += word.eq(Mux(target.reply, self.replies.data, self.memory.read_data))
        m.d.comb += [
            self.memory.addr.eq(address[WORD_SHIFT:]),
            self.memory.data.eq(bus.data),
            bus.error.eq(self._refused(m, errors)),
            bus.read_data.eq(result),
            block.data.eq(bus.data),
            block.strobe.eq(bus.strobe),
        ]
        words, right = Signal(32), Signal()  # of SEND; what is right about it is known when the access acts
        m.d.comb += words.eq(Cat(Mux(bus.strobe[byte], bus.data[8 * byte : 8 * byte + 8], 0) for byte in range(4)))
        m.d.sync += [self.commands.words.eq(words), right.eq((words != 0) & (words <= MESSAGE_WORDS))]
        with m.FSM(name="access"):
            with m.State("DECODE"), m.If(bus.request):
                m.d.sync += result.eq(block.word)
                m.next = "ACT"
            with m.State("ACT"):
                m.next = "DONE"
                with m.If(~target.block):
                    m.d.sync += result.eq(0)
                with m.If(~target.allowed):
                    m.d.comb += errors.bad_address.eq(1)
                with m.Elif(target.block):
                    m.d.comb += block.write.eq(bus.write)
                with m.Elif(target.counter):
                    m.d.comb += counters.start.eq(~target.high)
                    m.d.sync += result.eq(counters.high)
                    with m.If(~target.high):
                        m.next = "COUNTER"
                with m.Else():
                    self._access_mailbox(m, bus, target, right, errors)
                    self._access_memory(m, bus, target, errors, address, result)
                    with m.If(~bus.write & (target.reply | (target.memory & self.held))):
                        m.next = "WORD"
            with m.State("WORD"):
                m.d.sync += result.eq(word)
                m.next = "DONE"
            with m.State("COUNTER"), m.If(counters.done):
                m.d.sync += result.eq(counters.low)
                m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += bus.done.eq(1)
                m.next = "DECODE"
        with m.If(block.pulses.TAKE.take):
            m.d.comb += [self.replies.take.eq(1), errors.no_reply.eq(self.replies.count == 0)]
        return m

    def _decode(self, m: Module, bus, block, counters):
        """What the access is for: flags, registered in the cycle before they are used."""
        kinds = ("allowed", "block", "counter", "high", "send", "address", "memory", "command", "reply")
        target, now = (Signal(data.StructLayout(dict.fromkeys(kinds, 1)), name=name) for name in ("target", "now"))
        m.d.sync += target.eq(now)
        index, window = bus.addr[:INDEX_BITS], bus.addr[INDEX_BITS:]
        first = self.map.address(f"{self.map.counters[0]}.LO") >> WORD_SHIFT
        assert first == 1 << len(block.addr), "counters follow registers"
        m.d.comb += [
            block.addr.eq(index),
            counters.index.eq(index[1 : len(block.addr)]),
            now.high.eq(index[0]),
            self.commands.index.eq(index),
            self.commands.data.eq(bus.data),
            self.replies.index.eq(index),
        ]
        with m.Switch(window):
            with m.Case(REGISTERS):
                with m.If(index[-1]):
                    inside = index[: len(block.addr)] < 2 * len(self.map.counters)
                    m.d.comb += [now.counter.eq(1), now.allowed.eq(~bus.write & inside)]
                with m.Else():
                    self._decode_registers(m, bus, block, index, now)
            with m.Case(COMMAND):
                m.d.comb += [now.command.eq(1), now.allowed.eq(bus.write & bus.strobe.all())]
            with m.Case(REPLY):
                m.d.comb += [now.reply.eq(1), now.allowed.eq(~bus.write)]
        return target

    def _decode_registers(self, m: Module, bus, block, index, now):
        m.d.comb += [now.block.eq(1), now.allowed.eq(Mux(bus.write, block.writable, block.readable))]
        for name, flag in (("SEND", now.send), ("MEMORY_ADDRESS", now.address), ("MEMORY_DATA", now.memory)):
            with m.If(index == self.map.address(name) >> WORD_SHIFT):
                whole = bus.strobe.all() if name == "MEMORY_DATA" else 1
                m.d.comb += [flag.eq(1), now.block.eq(0), now.allowed.eq(~bus.write | whole)]

    def _access_mailbox(self, m: Module, bus, target, right, errors):
        """Words of a command, and SEND."""
        room = self.commands.room != 0
        with m.If(target.command):
            m.d.comb += [self.commands.write.eq(room), errors.bad_send.eq(~room)]
        with m.If(target.send & bus.write):
            m.d.comb += [self.commands.send.eq(room & right), errors.bad_send.eq(~(room & right))]

    def _access_memory(self, m: Module, bus, target, errors, address, result):
        """The core's memory, through an address that moves on with each access."""
        memory = self.memory
        with m.If(target.address):
            m.d.sync += result.eq(address)
            for byte in range(-(-len(address) // 8)):
                low, high = max(8 * byte, WORD_SHIFT), min(8 * byte + 8, len(address))
                with m.If(bus.write & bus.strobe[byte]):
                    m.d.sync += address[low:high].eq(bus.data[low:high])
        with m.If(target.memory):
            with m.If(self.held):
                m.d.comb += memory.write.eq(bus.write)
                m.d.sync += address.eq(address + (1 << WORD_SHIFT))
            with m.Else():
                m.d.comb += errors.not_held.eq(1)

    def _status(self, m: Module, block: RegisterBlock):
        """Status, interrupts and sticky errors. Returns the errors that an access raises, high for one cycle."""
        errors = Signal(data.StructLayout(dict.fromkeys(ACCESS_ERRORS, 1)), name="raised")
        raised = Signal.like(errors, name="raised_before")
        status, sets = block.status, block.sets.ERROR
        m.d.sync += [
            raised.eq(errors),
            self.restart.eq(block.pulses.CONTROL.restart),
            self.flush.eq(block.pulses.CONTROL.flush),
            self.irq.eq((status.IRQ_STATUS.as_value() & block.values.IRQ_ENABLE.as_value()).any()),
        ]
        m.d.comb += [sets[name].eq(raised[name]) for name in ACCESS_ERRORS]
        m.d.comb += [
            sets.watchdog.eq(self.bitten),
            sets.trap.eq(self.trapped),
            self.hold.eq(block.values.CONTROL.hold),
            self.cold.eq(block.values.CONTROL.cold),
            status.STATUS.room.eq(self.commands.room),
            status.STATUS.replies.eq(self.replies.count),
            status.STATUS.words.eq(self.replies.words),
            status.STATUS.held.eq(self.held),
            status.STATUS.sleeping.eq(self.sleeping),
            status.STATUS.busy.eq(self.busy),
            status.STATUS.packet.eq(self.packet),
            status.STATUS.cause.eq(self.cause),
            status.IRQ_STATUS.reply.eq(self.replies.count != 0),
            status.IRQ_STATUS.error.eq(block.sticky.ERROR.as_value().any()),
        ]
        return errors

    @staticmethod
    def _refused(m: Module, errors) -> Signal:
        """An error was raised by the access, in the cycle before."""
        refused = Signal()
        m.d.sync += refused.eq(errors.as_value().any())
        return refused

    def _count(self, m: Module, counters: PerformanceCounters):
        active = ~self.sleeping & ~self.held
        m.d.comb += [
            counters.events.cycles.eq(1),
            counters.events.unit_cycles.eq(self.busy),
            counters.events.active_cycles.eq(active),
            counters.events.exposed_cycles.eq(active & ~self.busy),
            counters.events.packets_dropped.eq(self.dropped),
        ]
