"""What became of the latest jobs, for whoever decides on the next ones."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from . import layouts
from .config import UnitConfig
from .memory import Ram

__all__ = ["JobLog", "job_state"]

ACTIVE_BITS = 28
"""Bits of a head's summary below its flags."""
SLOT_BITS = 31
"""Bits of a row's word below ``dropped``."""
MASS_BITS = 32
ENDS = ("result_done", "append_done", "too_short", "too_long")

job_state = data.StructLayout({"done": 1, "short": 1, "long": 1, "no_victim": 1})
"""What is known of a job as a whole; ``done``: it ended, in any way."""


class JobLog(wiring.Component):
    """The results of the jobs with the latest four tags: their state, their heads, the slots of their rows.

    A job's state is cleared when it starts, and changes the cycle after an event. Heads and slots stay until a later
    job with the tag overwrites them; what a job does not bring (heads of a job that only appends, slots of one that
    only attends) is an earlier job's. While more than four jobs are between start and end, what is known of them is
    mixed up, and nothing else.

    Parameters
    ----------
    config
        ``4 * heads`` results of heads, unless it has no ``head_log``, and ``4 * kv_heads`` places of rows.

    Members
    -------
    started : In(layouts.job_end())
        ``valid``: a job with this tag starts.
    events : In(layouts.job_events(config))
        Heads at most every other cycle; the others one each a cycle.
    state : Out(ArrayLayout(job_state, 4))
        By tag.
    slots : In(1), addr : In
        What to read: of slots word ``tag * kv_heads + kv``, else of heads word ``(tag * heads + head) * 2``, and the
        mass behind it.
    word : Out(32)
        It, 2 cycles later, as the register map describes it; undefined if it is written in the cycle of the address.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        self.head_words = 2 * layouts.JOB_TAGS * config.heads
        super().__init__(
            {
                "started": In(layouts.job_end()),
                "events": In(layouts.job_events(config)),
                "state": Out(data.ArrayLayout(job_state, layouts.JOB_TAGS)),
                "slots": In(1),
                "addr": In(ceil_log2(self.head_words)),
                "word": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._states(m)
        chosen, before = Signal(), Signal()
        m.d.sync += [before.eq(self.slots), chosen.eq(before)]
        rows = self._rows(m)
        m.d.comb += self.word.eq(Mux(chosen, rows, self._heads(m)) if self.config.head_log else rows)
        return m

    def _states(self, m):
        events = self.events
        for tag in range(layouts.JOB_TAGS):
            state = Signal(job_state, name=f"state_{tag}")
            ended = {name: events[name].valid & (events[name].tag == tag) for name in ENDS}
            m.d.sync += [
                state.done.eq(state.done | Cat(ended.values()).any()),
                state.short.eq(state.short | ended["too_short"]),
                state.long.eq(state.long | ended["too_long"]),
                state.no_victim.eq(state.no_victim | (events.row.valid & events.row.dropped & (events.row.tag == tag))),
            ]
            with m.If(self.started.valid & (self.started.tag == tag)):
                m.d.sync += state.eq(0)
            m.d.comb += self.state[tag].eq(state)

    def _heads(self, m):
        """Two words for a head, written one after the other; returns the word read."""
        m.submodules.heads = ram = Ram(width=32, depth=self.head_words, latency=2)
        head, second = self.events.head, Signal()
        m.d.sync += second.eq(head.valid)
        flags = Cat(head.masked, head.null, head.softmax, head.fallback)
        mass = head.mass[:MASS_BITS]
        if len(head.mass) > MASS_BITS:
            mass |= head.mass[MASS_BITS:].any().replicate(MASS_BITS)
        summary = Cat(head.active, Const(0, ACTIVE_BITS - len(head.active)), flags)
        m.d.comb += [
            ram.write_en.eq(head.valid | second),
            ram.write_addr.eq(Cat(second, _entry(head.tag, self.config.heads, head.head))),
            ram.write_data.eq(Mux(second, mass, summary)),
            ram.read_addr.eq(self.addr),
        ]
        return ram.read_data

    def _rows(self, m):
        """A word for a row; returns the word read."""
        slot_bits = self.config.sizes.slot_bits
        m.submodules.rows = ram = Ram(width=slot_bits + 1, depth=layouts.JOB_TAGS * self.config.kv_heads, latency=2)
        row = self.events.row
        m.d.comb += [
            ram.write_en.eq(row.valid),
            ram.write_addr.eq(_entry(row.tag, self.config.kv_heads, row.kv)),
            ram.write_data.eq(Cat(row.slot, row.dropped)),
            ram.read_addr.eq(self.addr),
        ]
        return Cat(ram.read_data[:slot_bits], Const(0, SLOT_BITS - slot_bits), ram.read_data[slot_bits])


def _entry(tag, count: int, index):
    """``tag * count + index``, spending no multiplier."""
    entries = layouts.JOB_TAGS * count
    total = Array(Const(number * count, range(entries)) for number in range(layouts.JOB_TAGS))[tag] + index
    return total[: ceil_log2(entries)]
