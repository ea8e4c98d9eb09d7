"""The unit without a host's bus: registers on a register bus, packets in, results out."""

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .attention_core import AttentionCore
from .axi_lite import WORD_SHIFT, RegisterBus
from .config import UnitConfig
from .control_registers import ControlRegisters
from .gain_table import GainTable
from .head_table import HeadTable
from .register_map import RegisterMap
from .result_packer import result_beat
from .row_loader import input_beat
from .serial_core import SerialCore
from .shared_memory import StorePort

__all__ = ["AttentionUnit"]


class AttentionUnit(wiring.Component):
    """Control, tables and datapath of the sparse attention unit.

    The protocol (jobs, packets, results) is in ``docs/design.md``, the registers in the generated register page.

    Parameters
    ----------
    config
        What to build.

    Members
    -------
    bus : In(RegisterBus(address width of :class:`RegisterMap` less 2))
        See :class:`ControlRegisters` for how long accesses take.
    i : In(stream(input_beat(config))), o : Out(stream(result_beat(config)))
    irq : Out(1)
        Level: an enabled bit of IRQ_STATUS is set.
    memory : In(StorePort(config.shared_memory))
        Only with shared memory.
    busy : Out(1)
        Level: a job is queued or running; 2 cycles late.
    started : Out(1)
        One cycle: START queued a job; before the write is answered or with it.
    finished : Out(1)
        One cycle: at least one job ended; JOBS_DONE and JOB_STATE tell of it from the next cycle on.
    waiting : Out(1)
        Level: a job waits for a beat of its packet, and none is offered.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        shared = {"memory": In(StorePort(config.shared_memory))} if config.shared_memory else {}
        super().__init__(
            {
                **shared,
                "bus": In(RegisterBus(RegisterMap(config).address_width - WORD_SHIFT)),
                "i": In(stream.Signature(input_beat(config))),
                "o": Out(stream.Signature(result_beat(config))),
                "irq": Out(1),
                "busy": Out(1),
                "started": Out(1),
                "finished": Out(1),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform):
        m, config = Module(), self.config
        m.submodules.control = control = ControlRegisters(config)
        m.submodules.head_table = heads = HeadTable(config)
        core = SerialCore(config) if config.phases == "serial" else AttentionCore(config)
        m.submodules.core = ResetInserter(control.soft_reset)(core)
        connect(m, flipped(self.bus), control.bus)
        connect(m, flipped(self.i), core.i)
        connect(m, core.o, flipped(self.o))
        connect(m, control.job, core.job)
        connect(m, control.head_table, heads.bus)
        m.d.comb += [
            control.busy.eq(core.busy),
            control.errors.eq(core.errors),
            control.finished.eq(core.finished),
            control.events.eq(core.events),
            control.job_events.eq(core.job_events),
            heads.addr.eq(core.settings_addr),
            core.settings.eq(heads.entry),
            self.irq.eq(control.irq),
            self.busy.eq(control.working),
            self.started.eq(control.started),
            self.finished.eq(control.ended),
            self.waiting.eq(core.waiting),
        ]
        if control.has_gains:
            m.submodules.gain_table = gains = GainTable(config)
            connect(m, control.gain_table, gains.bus)
            m.d.comb += [gains.addr.eq(core.gain_addr), core.gain_data.eq(gains.data)]
        if config.statistics:
            connect(m, control.peek, core.peek)
            connect(m, core.peeked, control.peeked)
        if config.shared_memory:
            connect(m, flipped(self.memory), core.memory)
        return m
