"""Whether the job in the job registers can run."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from reluctant.golden.formats import Metric

from . import layouts
from .config import UnitConfig
from .register_map import parameters

__all__ = ["JobCheck"]


class JobCheck(wiring.Component):
    """Turns job registers into a job, and says whether it cannot run.

    A job is bad when any of these holds: a checked register does not fit; it neither appends nor attends; it attends or
    evicts and ``n`` is 0 or ``base + n`` is beyond the slots; it appends without evicting and ``base + slot`` is beyond
    the slots, or attends as well and ``slot >= n``; the head dimension is 0, no multiple of the lanes or above the
    build's; the normaliser is not built, the metric unknown, the profile beyond those built; it evicts without
    appending or in a build without statistics.

    Parameters
    ----------
    config
        The build.
    values
        Layout of the storage fields of a register block.

    Members
    -------
    values : In(values), misfit : In(1)
    job : Out(layouts.job(config))
        Combinational; profile and normaliser cut to their width; ``tag`` is 0.
    bad : Out(1)
        2 cycles after ``values`` and ``misfit``.
    """

    latency = 2

    def __init__(self, config: UnitConfig, values: data.StructLayout):
        self.config = config
        super().__init__({"values": In(values), "misfit": In(1), "job": Out(layouts.job(config)), "bad": Out(1)})

    def elaborate(self, platform):
        m = Module()
        config, values, job, control = self.config, self.values, self.job, self.values.JOB_CONTROL
        lane_bits = exact_log2(config.lanes)
        m.d.comb += [
            job.n.eq(values.JOB_N.value),
            job.slot.eq(values.JOB_SLOT.value),
            job.base.eq(values.JOB_BASE.value),
            job.position.eq(values.JOB_POSITION.value),
            job.beats.eq(values.JOB_HEAD_DIM.value >> lane_bits),
            job.mask.eq(values.JOB_MASK.value),
            job.sinks.eq(values.JOB_SINKS.value),
            job.recent.eq(values.JOB_RECENT.value),
        ]
        for name in ("append", "attend", "evict", "emit_context", "normaliser", "profile", "metric", "silent"):
            m.d.comb += job[name].eq(control[name])

        reasons = self._row_reasons(job) + self._setting_reasons(job, control)
        held, bad = Signal(len(reasons)), Signal()
        m.d.sync += [held.eq(Cat(reasons)), bad.eq(held.any())]
        m.d.comb += self.bad.eq(bad)
        return m

    def _row_reasons(self, job) -> list:
        slots = self.config.slots
        uses_rows, in_place = job.attend | job.evict, job.append & ~job.evict
        return [
            self.misfit,
            ~job.append & ~job.attend,
            uses_rows & (job.n == 0),
            uses_rows & (job.base + job.n > slots),
            in_place & (job.base + job.slot >= slots),
            in_place & job.attend & (job.slot >= job.n),
            job.evict & ~job.append,
            job.evict & (not self.config.statistics),
        ]

    def _setting_reasons(self, job, control) -> list:
        config, head_dim = self.config, self.values.JOB_HEAD_DIM.value
        built = Const(parameters(config)["NORMALISERS"], 8)
        return [
            head_dim == 0,
            head_dim[: exact_log2(config.lanes)].any(),
            head_dim > config.head_dim,
            ~built.bit_select(control.normaliser, 1),
            job.metric > (Metric.MASS if config.phases == "serial" else max(Metric)),
            Const(0) if config.profiles == 256 else control.profile >= config.profiles,
        ]
