"""The scheduler: a RISC-V core with its memory, its registers and its way to the unit."""

from functools import reduce
from operator import or_

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .axi_lite import WORD_SHIFT, RegisterBus
from .core_memory import CoreMemory, MemoryPort
from .mailbox import MessageReader, MessageWriter
from .register_map import RegisterMap
from .riscv_core import RiscvCore
from .scheduler_registers import SchedulerRegisters
from .shared_memory import SharedMemory, StorePort
from .system_config import SystemConfig
from .unit_bridge import UnitBridge
from .watchdog import Watchdog

__all__ = ["COLD", "HOST", "TRAP", "WATCHDOG", "Scheduler", "gate_control"]

COLD, HOST, WATCHDOG, TRAP = range(4)
"""Why the core started."""
MEMORY, REGISTERS, UNIT = 0b00, 0b01, 0b10
"""The top two bits of an address."""


def gate_control() -> data.StructLayout:
    """What the scheduler tells the packet gate: its inputs of these names."""
    return data.StructLayout({"drop": 1, "abort": 1, "reset": 1, "patience": 5})


class Scheduler(wiring.Component):
    """Runs the firmware.

    The core starts at address 0 of its memory after power-up, at the end of ``hold``, after ``restart``, when the
    watchdog bites and when the firmware asks for it. Nothing but the core is reset then. The watchdog counts while the
    core is neither held nor asleep.

    Parameters
    ----------
    config
        The system.
    firmware
        First bytes of the memory.

    Members
    -------
    store : Out(StorePort(config.memory))
        To the unit's store, only with shared memory: the host then loads the firmware.
    unit : Out(RegisterBus)
        To the unit's registers.
    commands : Out(MessageReader), replies : Out(MessageWriter)
        To the mailbox.
    finished : In(1)
        One cycle: a job ended.
    gate : Out(gate_control())
    can_drop, timeout : In(1)
        Of the packet gate.
    hold : In(1)
        Level: the core is held in reset.
    restart : In(1)
        One cycle.
    cold : In(1)
        The next start by ``hold`` or ``restart`` is a cold one.
    memory : In(MemoryPort(config.memory))
        Only while ``held``.
    held, sleeping : Out(1)
    cause : Out(2)
        Why the core last started: 0 cold, 1 by the host, 2 by the watchdog, 3 after a trap.
    bitten, trapped : Out(1)
        One cycle: the watchdog, or the firmware, restarts the core.
    """

    def __init__(self, config: SystemConfig, firmware: bytes = b""):
        self.config, self.firmware = config, firmware
        self.unit_width = RegisterMap(config.unit).address_width - WORD_SHIFT
        shared = config.unit.shared_memory
        super().__init__(
            {
                **({"store": Out(StorePort(shared))} if shared else {}),
                "unit": Out(RegisterBus(self.unit_width)),
                "commands": Out(MessageReader(config.messages)),
                "replies": Out(MessageWriter(config.messages)),
                "finished": In(1),
                "gate": Out(gate_control()),
                "can_drop": In(1),
                "timeout": In(1),
                "hold": In(1),
                "restart": In(1),
                "cold": In(1),
                "memory": In(MemoryPort(config.memory)),
                "held": Out(1),
                "sleeping": Out(1),
                "cause": Out(2),
                "bitten": Out(1),
                "trapped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = self._memory()
        m.submodules.registers = registers = SchedulerRegisters(self.config)
        m.submodules.bridge = bridge = UnitBridge(self.unit_width)
        core, asked, reset = RiscvCore(multiply=self.config.multiply), Signal(), Signal()
        m.submodules.core = ResetInserter(reset)(core)
        connect(m, flipped(self.memory), memory.host)
        connect(m, bridge.unit, flipped(self.unit))
        connect(m, registers.commands, flipped(self.commands))
        connect(m, registers.replies, flipped(self.replies))
        m.d.comb += [
            memory.held.eq(self.held),
            registers.finished.eq(self.finished),
            registers.can_drop.eq(self.can_drop),
            registers.timeout.eq(self.timeout),
            registers.cause.eq(self.cause),
            self.gate.drop.eq(registers.drop),
            self.gate.abort.eq(registers.abort),
            self.gate.reset.eq(registers.forget),
            self.gate.patience.eq(registers.patience),
        ]
        self._starts(m, registers, core, reset)
        # The core holds what it writes to the unit: it asks for nothing more, and is reset when that has ended.
        wanted = self.hold | self.held | self.restart | self.bitten | self.trapped
        m.d.sync += [asked.eq(wanted | (asked & ~bridge.bus.ready)), reset.eq(asked & bridge.bus.ready)]
        if self.config.unit.shared_memory:
            connect(m, memory.store, flipped(self.store))
            m.d.comb += [
                memory.asks.eq(core.bus.request),
                memory.sleeping.eq(self.sleeping),
                memory.wake.eq(registers.interrupt),
                core.interrupt.eq(memory.awake),
            ]
        else:
            m.d.comb += core.interrupt.eq(registers.interrupt)
        self._decode(m, core.bus, asked | reset, {MEMORY: memory.bus, REGISTERS: registers.bus, UNIT: bridge.bus})
        return m

    def _memory(self) -> CoreMemory | SharedMemory:
        """The core's memory, or its way to where it is."""
        if self.config.unit.shared_memory:
            return SharedMemory(self.config.memory)
        return CoreMemory(self.config.memory, self.firmware)

    def _starts(self, m: Module, registers: SchedulerRegisters, core: RiscvCore, reset: Signal):
        """What asks for a reset of the core."""
        m.submodules.watchdog = watchdog = Watchdog(self.config.watchdog)
        by_host = Signal()
        m.d.comb += [
            by_host.eq((self.restart | self.held) & ~self.hold),
            self.sleeping.eq(core.sleeping & ~reset),
            self.bitten.eq(watchdog.bite & ~reset),
            self.trapped.eq(registers.restart & ~reset),
            watchdog.working.eq(~reset & ~core.sleeping),
            watchdog.kick.eq(registers.kick),
        ]
        m.d.sync += self.held.eq(self.hold)
        with m.If(by_host):
            m.d.sync += self.cause.eq(Mux(self.cold, COLD, HOST))
        with m.Elif(self.bitten):
            m.d.sync += self.cause.eq(WATCHDOG)
        with m.Elif(self.trapped):
            m.d.sync += self.cause.eq(TRAP)

    @staticmethod
    def _decode(m: Module, bus, closed, slaves):
        """Each transfer goes to the slave that the top bits of its address name; without one it is an error."""
        region, latest = bus.addr[28:], Signal(2)
        was_memory, was_unit = Signal(), Signal()
        m.d.comb += [bus.ready.eq(1), bus.error.eq(1)]
        with m.If(bus.request & ~closed):
            m.d.sync += [latest.eq(region), was_memory.eq(region == MEMORY), was_unit.eq(region == UNIT)]
        for number, slave in slaves.items():
            m.d.comb += [
                # What the core asks for in its last cycle, it does not wait for.
                slave.request.eq(bus.request & ~closed & (region == number)),
                slave.write.eq(bus.write),
                slave.addr.eq(bus.addr),
                slave.data.eq(bus.data),
                slave.strobe.eq(bus.strobe),
            ]
        with m.Switch(latest):
            for number, slave in slaves.items():
                with m.Case(number):
                    m.d.comb += [bus.ready.eq(slave.ready), bus.error.eq(slave.error)]
        # The memory's word is late in its cycle: little follows it.
        gates = {MEMORY: was_memory, REGISTERS: ~was_memory & ~was_unit, UNIT: was_unit}
        loaded = [slaves[number].word & gate.replicate(32) for number, gate in gates.items()]
        m.d.comb += [
            bus.from_memory.eq(was_memory),
            bus.word.eq(slaves[MEMORY].word),
            bus.read_data.eq(reduce(or_, loaded)),
        ]
