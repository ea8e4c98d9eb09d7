"""Control of the unit over its register bus: registers, job queue, job log, tables, counters, interrupt."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from . import layouts
from .axi_lite import WORD_SHIFT, RegisterBus
from .config import UnitConfig
from .gain_table import gain_table_bus
from .head_table import head_table_bus
from .job_check import JobCheck
from .job_log import JobLog, job_state
from .performance_counters import PerformanceCounters, counter_events
from .register_block import RegisterBlock
from .register_map import RegisterMap
from .stream_fifo import StreamFifo

__all__ = ["ControlRegisters", "slot_state"]

PACKET_ERRORS = ("packet_short", "packet_long", "no_victim")
FINISHES = ("result_done", "append_done", "dropped")


def slot_state(config: UnitConfig) -> data.StructLayout:
    """What is known of a slot: the mass that its row gathered, and its token's position."""
    return data.StructLayout({"mass": config.mass_bits, "position": config.position_bits})


class _HeldJob(wiring.Component):
    """A queue of one job whose payload is that of ``i``, which must hold from its transfer until that of ``o``."""

    def __init__(self, config: UnitConfig):
        jobs = stream.Signature(layouts.job(config))
        super().__init__({"i": In(jobs), "o": Out(jobs), "level": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.o.payload.eq(self.i.payload), self.o.valid.eq(self.level), self.i.ready.eq(~self.level)]
        m.d.sync += self.level.eq(Mux(self.level, ~self.o.ready, self.i.valid))
        return m


class ControlRegisters(wiring.Component):
    """The unit's control: the registers of :class:`RegisterMap` on a bus.

    A write to START checks the job registers (see :class:`JobCheck`) and queues the job with the next tag or answers
    with an error. What answers with an error changes nothing but an error bit: ``bad_job``, ``queue_full``,
    ``write_busy`` (a table while a job is queued or running) or ``bad_address``. A refused read gives 0. Every access
    ends: a register's 2 cycles after its request, START's and the job log's in 3, a table's in 7, the low half of a
    counter within 2 plus ``PerformanceCounters.longest_read``, a slot's state in 3 plus the time to ``peeked``.

    Parameters
    ----------
    config
        The build.

    Members
    -------
    bus : In(RegisterBus(address width of the map less 2))
        ``read_data`` holds from a read's ``done`` until the next read is requested.
    job : Out(stream(layouts.job(config)))
        Jobs in order, behind a queue of ``job_queue``.
    busy : In(1)
        A job is running; must rise at most two cycles after ``job`` transferred it.
    soft_reset : Out(1)
        High for one cycle, in which nothing may move on the streams; empties the job queue.
    errors : In(struct of packet_short, packet_long, no_victim)
        One-cycle pulses.
    finished : In(struct of result_done, append_done, dropped)
        One-cycle pulses, each one job that finished; any may coincide.
    events : In(counter_events(config))
    job_events : In(layouts.job_events(config))
        The ends among them in the cycle of ``finished``.
    working : Out(1)
        A job is queued or running.
    started, ended : Out(1)
        One cycle: a job was queued; at least one job finished (a cycle later).
    head_table : Out(RegisterBus), gain_table : Out(RegisterBus)
        To ``bus`` of a :class:`~reluctant.hdl.head_table.HeadTable` and, only with an RMS normaliser, of a
        :class:`~reluctant.hdl.gain_table.GainTable`.
    peek : Out(stream(row_bits)), peeked : In(stream(slot_state(config)))
        Row ``kv * slots + slot`` and its answer, one at a time; only with statistics.
    irq : Out(1)
        Level: an enabled bit of IRQ_STATUS is set.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        self.map = RegisterMap(config)
        self.has_gains = "GAIN" in self.map.registers
        members = {
            "bus": In(RegisterBus(self.map.address_width - WORD_SHIFT)),
            "job": Out(stream.Signature(layouts.job(config))),
            "busy": In(1),
            "soft_reset": Out(1),
            "errors": In(data.StructLayout(dict.fromkeys(PACKET_ERRORS, 1))),
            "finished": In(data.StructLayout(dict.fromkeys(FINISHES, 1))),
            "events": In(counter_events(config)),
            "job_events": In(layouts.job_events(config)),
            "working": Out(1),
            "started": Out(1),
            "ended": Out(1),
            "head_table": Out(head_table_bus(config)),
            "irq": Out(1),
        }
        if self.has_gains:
            members["gain_table"] = Out(gain_table_bus(config))
        if config.statistics:
            members["peek"] = Out(stream.Signature(config.sizes.row_bits))
            members["peeked"] = In(stream.Signature(slot_state(config)))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = block = RegisterBlock(self.map)
        counters = PerformanceCounters(self.config) if self.config.counter_bits else None
        m.submodules.log = self.log = JobLog(self.config)
        bus = self.bus
        starts = Signal()
        bad, full = self._jobs(m, block, starts)
        self._log(m, block)
        working = self._status(m, block)
        errors = self._errors(m, block)
        target = self._decode(m, bus, block, counters)
        tables = self._tables(m, bus, target)

        result, error = Signal(32, reset_less=True), Signal()
        writes = Signal()  # a register is written, in the cycle after ACT
        m.d.sync += writes.eq(0)
        m.d.comb += [
            block.write.eq(writes),
            bus.error.eq(error),
            bus.read_data.eq(result),
            block.data.eq(bus.data),
            block.strobe.eq(bus.strobe),
        ]
        if counters:
            m.submodules.counters = counters
            m.d.comb += [
                counters.events.eq(self.events),
                counters.clear.eq(block.pulses.COUNTERS_CLEAR.clear),
            ]
        with m.FSM(name="access"):
            with m.State("DECODE"), m.If(bus.request):
                with m.If(~bus.write):
                    m.d.sync += result.eq(block.word)
                m.next = "ACT"
            with m.State("ACT"):
                m.d.sync += error.eq(0)
                m.next = "DONE"
                with m.If(~bus.write & ~target.block):
                    m.d.sync += result.eq(0)
                with m.If(~target.allowed):
                    m.d.comb += errors.bad_address.eq(1)
                    m.d.sync += error.eq(1)
                with m.Elif(target.table & working):
                    m.d.comb += errors.write_busy.eq(1)
                    m.d.sync += error.eq(1)
                with m.Elif(target.block & bus.write):
                    m.d.sync += writes.eq(1)
                    with m.If(target.start):
                        m.next = "START"
                if counters:
                    with m.Elif(target.counter):
                        m.d.comb += counters.start.eq(~target.high)
                        m.d.sync += result.eq(counters.high)
                        with m.If(~target.high):
                            m.next = "COUNTER"
                with m.Elif(target.log):
                    m.next = "LOG"
                with m.Elif(target.head | (target.gain if self.has_gains else 0)):
                    m.next = "TABLE"
                if self.config.statistics:
                    with m.Elif(~target.block):
                        m.next = "PEEK"
            with m.State("START"):
                m.d.comb += [starts.eq(1), errors.bad_job.eq(bad), errors.queue_full.eq(~bad & full)]
                m.d.sync += error.eq(bad | full)
                m.next = "DONE"
            with m.State("LOG"):
                m.d.sync += result.eq(self.log.word)
                m.next = "DONE"
            if counters:
                with m.State("COUNTER"), m.If(counters.done):
                    m.d.sync += result.eq(counters.low)
                    m.next = "DONE"
            with m.State("TABLE"):
                self._access_tables(m, bus, tables, errors, result, error)
            if self.config.statistics:
                self._peek_states(m, bus, target, result)
            with m.State("DONE"):
                m.d.comb += bus.done.eq(1)
                m.next = "DECODE"
        return m

    def _jobs(self, m: Module, block, starts):
        """Job registers to job queue. Returns whether the job is bad (2 cycles behind), and whether the queue is full.

        A job register changes at least 3 cycles before a START behind it is looked at: the check is over.
        """
        config = self.config
        m.submodules.check = check = JobCheck(config, block.values.shape())
        held = config.phases == "serial"
        queue = _HeldJob(config) if held else StreamFifo(layouts.job(config), config.job_queue)
        reset, push, started = Signal(), Signal(), Signal(32)
        m.submodules.queue = ResetInserter(reset)(queue)
        m.d.sync += [
            reset.eq(block.pulses.CONTROL.soft_reset),
            push.eq(starts & ~check.bad & queue.i.ready),
        ]
        with m.If(push):
            m.d.sync += started.eq(started + 1)
        connect(m, queue.o, flipped(self.job))
        m.d.comb += [
            self.soft_reset.eq(reset),
            check.values.eq(block.values),
            check.misfit.eq(block.misfit),
            queue.i.payload.eq(check.job),
            queue.i.payload.tag.eq(started - 1 if held else started),
            queue.i.valid.eq(push),
            self.started.eq(push),
            self.log.started.valid.eq(push),
            self.log.started.tag.eq(started),
            block.status.JOBS_STARTED.value.eq(started),
            block.status.STATUS.queued.eq(queue.level),
            block.status.STATUS.room.eq(config.job_queue - queue.level),
        ]
        return check.bad, ~queue.i.ready

    def _log(self, m: Module, block):
        """What the job log knows into its register, and what it is asked for."""
        bus, log = self.bus, self.log
        m.d.comb += [log.events.eq(self.job_events), log.addr.eq(bus.addr), log.slots.eq(self._window() == 6)]
        for tag in range(layouts.JOB_TAGS):
            for name in job_state.members:
                m.d.comb += block.status.JOB_STATE[f"{name}{tag}"].eq(log.state[tag][name])

    def _status(self, m: Module, block):
        """Busy, interrupts and jobs done. Returns whether a job is queued or running."""
        working, left = Signal(), Signal()
        m.d.sync += [left.eq(self.job.valid), working.eq(self.busy | self.job.valid | left)]
        m.d.comb += [block.status.STATUS.busy.eq(working), self.working.eq(working)]

        count, irq = Signal(2), Signal()
        jobs_done = Signal.like(block.status.JOBS_DONE.value)
        finished = self.finished.as_value()
        m.d.sync += [
            count.eq(sum(finished)),
            jobs_done.eq(jobs_done + count),
            irq.eq((block.sticky.IRQ_STATUS.as_value() & block.values.IRQ_ENABLE.as_value()).any()),
        ]
        m.d.comb += [
            block.status.JOBS_DONE.value.eq(jobs_done),
            block.sets.IRQ_STATUS.job_done.eq(count.any()),
            block.sets.IRQ_STATUS.error.eq(block.sets.ERROR.as_value().any()),
            self.irq.eq(irq),
            self.ended.eq(count.any()),
        ]
        return working

    def _errors(self, m: Module, block):
        """Error pulses into the sticky bits. Returns the pulses that accesses raise."""
        names = [name for name in self.map.fields("ERROR") if name not in PACKET_ERRORS]
        layout = data.StructLayout(dict.fromkeys(names, 1))
        raised, held = Signal(layout, name="raised"), Signal(layout, name="raised_before")
        m.d.sync += held.eq(raised)
        for name in PACKET_ERRORS:
            m.d.comb += block.sets.ERROR[name].eq(self.errors[name])
        for name in names:
            m.d.comb += block.sets.ERROR[name].eq(held[name])
        return raised

    def _decode(self, m: Module, bus, block, counters):
        """What the access is for: flags, registered in the cycle before they are used."""
        kinds = ["allowed", "block", "start", "table", "head", "log"]
        kinds += (
            ["counter", "high"] * (counters is not None)
            + ["gain"] * self.has_gains
            + ["position"] * self.config.statistics
        )
        target, now = (Signal(data.StructLayout(dict.fromkeys(kinds, 1)), name=name) for name in ("target", "now"))
        m.d.sync += target.eq(now)
        window = self._window()
        offset = bus.addr[: len(bus.addr) - len(window)]
        m.d.comb += block.addr.eq(bus.addr)
        with m.Switch(window):
            with m.Case(0):
                self._decode_registers(m, bus, block, counters, offset, now)
            with m.Case(1):
                head = self.map.register("HEAD_TABLE.THETA")
                words = [r.address for r in self.map.registers.values() if r.name.startswith("HEAD_TABLE.")]
                stride = head.strides[-1] >> WORD_SHIFT
                used = (max(words) - head.address >> WORD_SHIFT) + 1
                word = offset[: ceil_log2(stride)]
                m.d.comb += [
                    now.allowed.eq((offset < head.count * stride) & (word < used)),
                    Cat(now.table, now.head).eq(0b11),
                ]
            if self.has_gains:
                with m.Case(2):
                    allowed = offset < self.map.register("GAIN").count
                    m.d.comb += [now.allowed.eq(allowed), Cat(now.table, now.gain).eq(0b11)]
            if self.config.statistics:
                with m.Case(3, 4):
                    allowed = ~bus.write & (offset < self.config.sizes.rows)
                    m.d.comb += [now.allowed.eq(allowed), now.table.eq(1), now.position.eq(window == 4)]
            for number, words in self._log_windows():
                with m.Case(number):
                    m.d.comb += [now.allowed.eq(~bus.write & (offset < words)), now.log.eq(1)]
        return target

    def _log_windows(self) -> list[tuple[int, int]]:
        """Numbers of the job log's windows, and their words."""
        heads = [(5, self.log.head_words)] if self.config.head_log else []
        return [*heads, (6, layouts.JOB_TAGS * self.config.kv_heads)]

    def _window(self):
        """Number of the window that the access is in."""
        return self.bus.addr[ceil_log2(self.map.window) - WORD_SHIFT :]

    def _is_job_register(self, low):
        """Whether a plain register is one that a running job works from."""
        if self.config.phases != "serial":
            return Const(0, 1)
        places = [r.address >> WORD_SHIFT for r in self.map.registers.values() if r.name.startswith("JOB_")]
        return Cat(low == place for place in places if place < 1 << len(low)).any()

    def _decode_registers(self, m: Module, bus, block, counters, offset, now):
        """Registers and counters share the first window."""
        low = offset[: block.addr.shape().width]
        high = offset[block.addr.shape().width :]
        with m.If(high == 0):
            access = (bus.write & block.writable) | (~bus.write & block.readable)
            locked = bus.write & self._is_job_register(low)
            start = self.map.address("START") >> WORD_SHIFT
            m.d.comb += [now.block.eq(1), now.allowed.eq(access), now.table.eq(locked), now.start.eq(low == start)]
        if counters:
            self._decode_counter(m, bus, counters, low, high, now)

    def _decode_counter(self, m: Module, bus, counters, low, high, now):
        first = self.map.address(f"{self.map.counters[0]}.LO") >> WORD_SHIFT
        assert first == 1 << len(low), "counters follow registers"
        with m.If(high == 1):
            m.d.comb += [
                now.counter.eq(1),
                now.high.eq(low[0]),
                now.allowed.eq(~bus.write & (low < 2 * len(self.map.counters))),
            ]
        m.d.comb += counters.index.eq(low[1:])

    def _tables(self, m: Module, bus, target) -> list:
        """The tables, what chooses them, and their requests; the access is at all of them all the time."""
        tables = [("head", self.head_table, target.head)]
        if self.has_gains:
            tables.append(("gain", self.gain_table, target.gain))
        found = []
        for name, table, chosen in tables:
            asks = Signal(name=f"asks_{name}")
            m.d.comb += [
                table.write.eq(bus.write),
                table.addr.eq(bus.addr),
                table.data.eq(bus.data),
                table.strobe.eq(bus.strobe),
                table.request.eq(asks),
            ]
            found.append((table, chosen, asks))
        return found

    def _access_tables(self, m: Module, bus, tables, errors, result, error):
        """The access goes on to a table, a cycle later, and takes its answer."""
        for table, chosen, asks in tables:
            m.d.sync += asks.eq(chosen & ~table.done)
            with m.If(chosen & table.done):
                m.d.comb += errors.bad_job.eq(table.error)
                m.d.sync += error.eq(table.error)
                with m.If(~bus.write):
                    m.d.sync += result.eq(table.read_data)
                m.next = "DONE"

    def _peek_states(self, m: Module, bus, target, result):
        """A slot's mass or position is asked for, and taken."""
        state = self.peeked.payload
        with m.State("PEEK"):
            m.d.comb += [self.peek.valid.eq(1), self.peek.payload.eq(bus.addr)]
            with m.If(self.peek.ready):
                m.next = "PEEKED"
        with m.State("PEEKED"):
            m.d.comb += self.peeked.ready.eq(1)
            with m.If(self.peeked.valid):
                with m.If(target.position):
                    m.d.sync += result.eq(state.position)
                with m.Else():
                    m.d.sync += result.eq(state.mass)
                m.next = "DONE"
