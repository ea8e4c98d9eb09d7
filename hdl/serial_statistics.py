"""Mass and position of every row, one access at a time."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden import formats

from .config import UnitConfig
from .memory import Ram
from .slot_statistics import slot_record

__all__ = ["SerialStatistics", "eviction"]


def eviction(config: UnitConfig) -> data.StructLayout:
    """How a victim is chosen, as in :func:`reluctant.hdl.layouts.job`."""
    bits = config.position_bits
    return data.StructLayout({"position": bits, "sinks": bits, "recent": bits, "metric": 2})


class SerialStatistics(wiring.Component):
    """What :class:`~reluctant.hdl.slot_statistics.SlotStatistics` keeps, for one head and one search at a time.

    There is no metric RATE. A row is earned for in the cycle after its ``update``, so rows of consecutive cycles must
    differ; a row appended or updated may be read two cycles later.

    Parameters
    ----------
    config
        ``mass_bits`` and ``position_bits`` are the widths of a record; ``sizes.rows`` the number of records.

    Members
    -------
    row : In(row_bits)
        Of everything below.
    update : In(1), weight : In(8)
        The row earns a weight, which comes in the cycle after it.
    append : In(1)
        The row now holds the token at ``job.position``: its mass is 0.
    start : In(1)
        A search begins: nothing is found yet.
    search : In(1), slot : In(slot_bits)
        The row is looked at; its slot comes in the cycle after it.
    job : In(eviction(config))
        Holds through a search, and with ``append``.
    found : Out(1), victim : Out(slot_bits)
        The first row with the least metric of those looked at that may go; 2 cycles after the last.
    record : Out(slot_record(config))
        Of the row, in the next cycle.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        super().__init__(
            {
                "row": In(sizes.row_bits),
                "update": In(1),
                "weight": In(formats.WEIGHT_BITS),
                "append": In(1),
                "start": In(1),
                "search": In(1),
                "slot": In(sizes.slot_bits),
                "job": In(eviction(config)),
                "found": Out(1),
                "victim": Out(sizes.slot_bits),
                "record": Out(slot_record(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, rows = self.config, self.config.sizes.rows
        m.submodules.masses = masses = Ram(width=config.mass_bits, depth=rows)
        m.submodules.positions = positions = Ram(width=config.position_bits, depth=rows)
        earns, cleared = Signal(), Signal()
        earner = Signal(len(self.row), reset_less=True)
        bits = config.mass_bits
        total = Signal(bits + 1)
        m.d.sync += [earns.eq(self.update), cleared.eq(self.append), earner.eq(self.row)]
        m.d.comb += [
            self.record.mass.eq(masses.read_data),
            self.record.position.eq(positions.read_data),
            masses.read_addr.eq(self.row),
            positions.read_addr.eq(self.row),
            positions.write_en.eq(self.append),
            positions.write_addr.eq(self.row),
            positions.write_data.eq(self.job.position),
            total.eq(masses.read_data + self.weight),
            masses.write_en.eq(earns | cleared),
            masses.write_addr.eq(earner),
            masses.write_data.eq(Mux(cleared, 0, total[:bits] | total[bits].replicate(bits))),
        ]
        self._search(m)
        return m

    def _search(self, m):
        """Compare the record read with the best so far."""
        job, record = self.job, self.record
        looks = Signal()
        age = Signal(signed(self.config.position_bits + 1))
        evictable = Signal()
        key = Signal(max(len(record.mass), len(record.position)))
        best = Signal.like(key, reset_less=True)
        m.d.sync += looks.eq(self.search)
        m.d.comb += [
            age.eq(job.position - record.position),
            evictable.eq((record.position >= job.sinks) & (age > job.recent)),
            key.eq(Mux(job.metric == formats.Metric.POSITION, record.position, record.mass)),
        ]
        with m.If(self.start):
            m.d.sync += self.found.eq(0)
        with m.If(looks & evictable & (~self.found | (key < best))):
            m.d.sync += [self.found.eq(1), best.eq(key), self.victim.eq(self.slot)]
