"""What the serial core tells of its work: errors, ends, the job log, the performance counters."""

from amaranth.hdl import Cat, Signal

from . import layouts

__all__ = ["report"]


def report(m, core) -> None:
    """Drive what a :class:`~reluctant.hdl.serial_core.SerialCore` reports, in its module ``m``, from its signals."""
    job, stats = core.job.payload, core.record.stats
    starts, reported = Signal(), Signal()
    m.d.comb += [
        core.errors.eq(Cat(core.dropped_short, core.dropped_long, core.no_victim)),
        core.finished.result_done.eq(core.over & job.attend),
        core.finished.append_done.eq(core.over & ~job.attend),
        core.finished.dropped.eq(core.dropped_short | core.dropped_long),
        core.waiting.eq(core.i.ready & ~core.i.valid),
        reported.eq(core.header_begins),
    ]
    head = Signal(layouts.head_result(core.config))
    m.d.comb += core.job_events.head.eq(head)
    m.d.comb += [
        head.valid.eq(reported),
        head.tag.eq(job.tag),
        head.head.eq(core.head),
        head.masked.eq(core.masked),
    ]
    m.d.comb += [head[name].eq(stats[name]) for name in ("null", "active", "mass")]
    for name, pulse in (
        ("result_done", core.finished.result_done),
        ("append_done", core.finished.append_done),
        ("too_short", core.dropped_short),
        ("too_long", core.dropped_long),
    ):
        m.d.comb += [core.job_events[name].valid.eq(pulse), core.job_events[name].tag.eq(job.tag)]
    events = Signal.like(core.events)
    m.d.comb += core.events.eq(events)
    output_wait = core.o.valid & ~core.o.ready
    idle = core.job.valid & ~core.array.valid
    m.d.sync += starts.eq(core.job.valid & core.job.ready)
    m.d.comb += [
        events.busy_cycles.eq(core.job.valid),
        events.key_beats.eq(core.key_valid),
        events.value_beats.eq(core.valued),
        events.key_rows.eq(core.key_valid & core.key_last),
        events.value_rows.eq(core.valued & core.first_pass),
        events.masked_heads.eq(reported & core.masked),
        events.null_heads.eq(reported & stats.null),
        events.jobs.eq(starts),
        events.output_wait_cycles.eq(idle & output_wait),
        events.input_wait_cycles.eq(idle & ~output_wait & core.waiting),
        events.pipeline_wait_cycles.eq(idle & ~output_wait & ~core.waiting),
    ]
