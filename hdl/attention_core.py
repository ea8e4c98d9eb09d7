"""Everything between the job queue and the output stream."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from reluctant.golden import formats

from . import layouts
from .config import UnitConfig
from .context_accumulators import ContextAccumulators
from .context_buffer import ContextBuffer
from .head_sequencer import HeadSequencer
from .kv_store import KVStore
from .mac_array import MacArray
from .normaliser import Normaliser
from .performance_counters import counter_events
from .result_packer import result_beat
from .row_appender import RowAppender
from .row_fetch import RowFetch
from .row_loader import RowLoader, input_beat
from .row_selector import RowSelector
from .shared_memory import StorePort
from .slot_statistics import SlotStatistics, slot_record
from .slot_walker import SlotWalker

__all__ = ["AttentionCore", "core_members"]

IN_FLIGHT_BITS = 7
"""Jobs between their start and their end: two in the input banks, and a head or two in each stage behind."""


def core_members(config: UnitConfig) -> dict:
    """The members of a unit's data path, see :class:`AttentionCore`."""
    lanes = config.sizes.normaliser_lanes
    members = {
        "job": In(stream.Signature(layouts.job(config))),
        "i": In(stream.Signature(input_beat(config))),
        "o": Out(stream.Signature(result_beat(config))),
        "settings_addr": Out(range(max(2, config.profiles * config.heads))),
        "settings": In(layouts.head_settings(config)),
        "gain_addr": Out(range(max(2, config.profiles * config.heads * (config.head_dim // lanes)))),
        "gain_data": In(lanes * formats.GAIN_BITS),
        "busy": Out(1),
        "errors": Out(data.StructLayout({"packet_short": 1, "packet_long": 1, "no_victim": 1})),
        "finished": Out(data.StructLayout({"result_done": 1, "append_done": 1, "dropped": 1})),
        "events": Out(counter_events(config)),
        "job_events": Out(layouts.job_events(config)),
        "waiting": Out(1),
    }
    if config.statistics:
        members["peek"] = In(stream.Signature(config.sizes.row_bits))
        members["peeked"] = Out(stream.Signature(slot_record(config)))
    if config.shared_memory:
        members["memory"] = In(StorePort(config.shared_memory))
    return members


class AttentionCore(wiring.Component):
    """The datapath with its schedule: takes jobs and packets, gives results; settings and gains come from tables.

    See ``docs/design.md`` for what flows where, and each component for its latency.

    Members
    -------
    job : In(stream(layouts.job)), i : In(stream(input_beat)), o : Out(stream(result_beat))
    settings_addr, settings : the head table's read port, 2 cycles
    gain_addr, gain_data : the gain table's read port, 2 cycles
    peek, peeked : streams, slot statistics for the host; only with statistics
    memory : In(StorePort(config.shared_memory)), only with shared memory
    busy : Out(1), a job is anywhere between its start and its end
    errors : Out(packet_short, packet_long, no_victim), pulses
    finished : Out(result_done, append_done, dropped), pulses
    events : Out(counter_events), pulses for the performance counters
    job_events : Out(layouts.job_events), for the job log
    waiting : Out(1), a job waits for a beat of its packet
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        super().__init__(core_members(config))

    def elaborate(self, platform):
        m, config = Module(), self.config
        m.submodules.loader = self.loader = RowLoader(config)
        m.submodules.appender = self.appender = RowAppender(config)
        m.submodules.sequencer = self.sequencer = HeadSequencer(config)
        m.submodules.walker = self.walker = SlotWalker(config)
        m.submodules.fetch = self.fetch = RowFetch(config)
        m.submodules.store = self.store = KVStore(config)
        m.submodules.array = self.array = MacArray(config)
        m.submodules.selector = self.selector = RowSelector(config)
        m.submodules.accumulators = self.accumulators = ContextAccumulators(config)
        m.submodules.contexts = self.contexts = ContextBuffer(config)
        m.submodules.normaliser = self.normaliser = Normaliser(config)
        self._connect_front(m)
        self._connect_array(m)
        self._connect_back(m)
        if config.statistics:
            self._connect_statistics(m)
        self._report(m)
        self._log(m)
        return m

    def _connect_front(self, m):
        """Packets to rows in the store, groups to heads."""
        loader, appender, sequencer = self.loader, self.appender, self.sequencer
        connect(m, flipped(self.job), loader.job)
        connect(m, flipped(self.i), loader.i)
        connect(m, loader.o, appender.i)
        connect(m, appender.o, sequencer.group)
        connect(m, sequencer.walk, self.walker.i)
        connect(m, sequencer.head, self.selector.head)
        m.d.comb += [
            self.store.write.eq(appender.write),
            loader.kv_addr.eq(appender.kv_addr),
            appender.kv_data.eq(loader.kv_data),
            appender.retired.eq(self.fetch.retired),
            loader.release.eq(appender.release | sequencer.query_released | self.fetch.query_released),
            self.settings_addr.eq(sequencer.settings_addr),
            sequencer.settings.eq(self.settings),
            sequencer.released.eq(self.selector.released),
        ]

    def _connect_array(self, m):
        """One read a cycle, to scores or to contexts."""
        fetch, array = self.fetch, self.array
        connect(m, self.walker.o, fetch.key)
        connect(m, self.selector.o, fetch.value)
        connect(m, self.selector.record, fetch.head)
        m.d.comb += [
            fetch.stall.eq(self.store.stall),
            self.store.read_addr.eq(fetch.read_addr),
            self.store.read_en.eq(fetch.read_en),
            self.loader.q_addr.eq(fetch.query_addr),
            array.control.eq(fetch.control),
            array.row.eq(self.store.read_data),
            array.query.eq(self.loader.q_data),
            self.selector.score.eq(array.score),
            self.accumulators.products.eq(array.products),
            self.accumulators.product.eq(array.product),
        ]

    def _connect_back(self, m):
        """Contexts to results."""
        contexts, normaliser = self.contexts, self.normaliser
        connect(m, self.fetch.record, contexts.record)
        connect(m, contexts.o, normaliser.i)
        connect(m, normaliser.o, flipped(self.o))
        m.d.comb += [
            contexts.word.eq(self.accumulators.word),
            contexts.allocate.eq(self.fetch.allocate),
            self.fetch.space.eq(contexts.space),
            self.gain_addr.eq(normaliser.gain_addr),
            normaliser.gain_data.eq(self.gain_data),
        ]

    def _connect_statistics(self, m):
        m.submodules.statistics = statistics = SlotStatistics(self.config)
        connect(m, self.appender.append, statistics.append)
        connect(m, self.appender.search, statistics.search)
        connect(m, statistics.victim, self.appender.victim)
        connect(m, flipped(self.peek), statistics.peek)
        connect(m, statistics.peeked, flipped(self.peeked))
        m.d.comb += statistics.update.eq(self.selector.update)

    def _report(self, m):
        """Jobs in flight, errors, and where each cycle went."""
        starts = self.job.valid & self.job.ready
        in_flight = Signal(IN_FLIGHT_BITS)
        m.d.sync += in_flight.eq(in_flight + starts - sum(self.finished.as_value()))
        m.d.comb += [
            self.busy.eq(in_flight != 0),
            self.errors.packet_short.eq(self.loader.too_short),
            self.errors.packet_long.eq(self.loader.too_long),
            self.finished.result_done.eq(self.normaliser.done),
            self.finished.append_done.eq(self.appender.appended),
            self.finished.dropped.eq(self.loader.too_short | self.loader.too_long),
        ]
        if self.config.statistics:
            m.d.comb += self.errors.no_victim.eq(self.appender.no_victim)
        events, fetched = self.events, self.fetch.events
        working = self.busy | self.job.valid  # a job that waits for its packet has not started
        idle = working & ~(fetched.key_beat | fetched.value_beat)
        output_wait = self.o.valid & ~self.o.ready
        m.d.comb += [
            events.busy_cycles.eq(working),
            events.key_beats.eq(fetched.key_beat),
            events.value_beats.eq(fetched.value_beat),
            events.key_rows.eq(fetched.key_row),
            events.value_rows.eq(fetched.value_row),
            events.masked_heads.eq(self.sequencer.masked),
            events.null_heads.eq(fetched.null),
            events.fallbacks.eq(fetched.fallback),
            events.softmax_heads.eq(fetched.softmax),
            events.jobs.eq(starts),
            events.output_wait_cycles.eq(idle & output_wait),
            events.input_wait_cycles.eq(idle & ~output_wait & self.loader.waiting),
            events.pipeline_wait_cycles.eq(idle & ~output_wait & ~self.loader.waiting),
        ]

    def _log(self, m):
        """What the job log learns of jobs, by their tags."""
        loader, appender, normaliser, events = self.loader, self.appender, self.normaliser, self.job_events
        m.d.comb += [events.head.eq(normaliser.result), events.row.eq(appender.placed)]
        for name, valid, tag in (
            ("result_done", normaliser.done, normaliser.done_tag),
            ("append_done", appender.appended, appender.tag),
            ("too_short", loader.too_short, self.job.payload.tag),
            ("too_long", loader.too_long, self.job.payload.tag),
        ):
            m.d.comb += [events[name].valid.eq(valid), events[name].tag.eq(tag)]
        m.d.comb += self.waiting.eq(loader.waiting)
