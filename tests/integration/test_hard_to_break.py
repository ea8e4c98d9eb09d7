"""What a host does wrong is refused or dropped, said so, and costs nothing else: the next job is exact."""

from dataclasses import replace

import pytest

from reluctant.golden import formats
from reluctant.golden.formats import Metric, Mode, Normaliser
from reluctant.hdl.register_map import RegisterMap
from reluctant.sim.program import (
    Delay,
    ExpectPacket,
    HeadSettings,
    Job,
    Packet,
    Read,
    SetJob,
    WaitIdle,
    WaitInterrupt,
    Write,
)

from .layers import SMALL, START, Scenario
from .test_random_configurations import CASES

CONFIG = SMALL
D, SLOTS = CONFIG.head_dim, CONFIG.slots
SETTINGS = {(0, head): HeadSettings(alpha=formats.encode_alpha(5.0)) for head in range(CONFIG.heads)}
QUERY = Job(n=SLOTS, head_dim=D, append=False, normaliser=Normaliser.RMS_HEAD, emit_context=True)
SOFT_RESET = Write(register="CONTROL", word=1)


def filled(rows: int = SLOTS) -> Scenario:
    """A unit with its first rows appended."""
    scenario = Scenario(CONFIG, SETTINGS)
    append(scenario, rows)
    return scenario


def append(scenario: Scenario, rows: int, **settings) -> None:
    """Appends rows 0, 1, ... and attends to those so far."""
    for row in range(rows):
        scenario.step(Job(n=row + 1, head_dim=D, slot=row, position=row, normaliser=Normaliser.RMS_HEAD, **settings))


BAD_JOBS = {
    "more_rows_than_slots": Job(n=SLOTS + 1, head_dim=D),
    "no_rows": Job(n=0, head_dim=D, append=False),
    "rows_beyond_the_slots": Job(n=SLOTS - 2, base=3, head_dim=D),
    "row_not_attended": Job(n=4, slot=4, head_dim=D),
    "row_beyond_the_slots": Job(n=0, base=6, slot=SLOTS - 6, head_dim=D, attend=False),
    "no_head_dimension": Job(n=1, head_dim=0),
    "head_dimension_between_beats": Job(n=1, head_dim=D - 4),
    "head_dimension_too_long": Job(n=1, head_dim=D + CONFIG.lanes),
    "normaliser_not_built": Job(n=1, head_dim=D, normaliser=Normaliser.LENGTH),
    "normaliser_unknown": Job(n=1, head_dim=D, normaliser=7),
    "metric_unknown": Job(n=1, head_dim=D, evict=True, metric=3),
    "profile_not_built": Job(n=1, head_dim=D, profile=2),
    "evict_without_append": Job(n=1, head_dim=D, append=False, evict=True),
    "nothing_to_do": Job(n=1, head_dim=D, append=False, attend=False),
}


def test_bad_jobs_are_refused_while_others_run():
    scenario = filled()
    for job in BAD_JOBS.values():
        scenario.refused(job)
        scenario.step(QUERY)
        scenario.check_errors()
    # A word that does not fit its register spoils the job until it is written anew.
    scenario.add(SetJob(QUERY), Write(register="JOB_SLOT", word=0x100), replace(START, response="SLVERR"))
    scenario.errors.add("bad_job")
    scenario.step(QUERY)
    scenario.read_slots()
    scenario.run(stall_seed=4)


def test_what_is_not_built_is_refused():
    config = CASES["four_lanes_bare"]
    scenario = Scenario(config)
    plain = Job(n=1, head_dim=config.head_dim)
    for job in (
        replace(plain, normaliser=Normaliser.SUM),
        replace(plain, evict=True, metric=Metric.MASS),
        replace(plain, profile=1),
    ):
        scenario.refused(job)
        scenario.check_errors()
    for mode in (Mode.SOFTMAX, Mode.HYBRID, 3):
        scenario.add(Write(register="HEAD_TABLE.MODE", indices=(0, 0), word=mode, response="SLVERR"))
        scenario.errors.add("bad_job")
        scenario.check_errors()
    registers = RegisterMap(config)
    for window in (2, 3, 4):
        scenario.add(Read(register=window * registers.window, expect=0, response="SLVERR"))
    scenario.errors.add("bad_address")
    scenario.step(plain)
    scenario.run()


@pytest.mark.parametrize("stall_seed", [None, 6])
def test_packets_of_a_wrong_length_are_dropped_with_their_jobs(stall_seed):
    """The store keeps its rows, and the jobs queued behind are exact."""
    scenario = filled()
    jobs = 0
    for kind in ({}, {"append": False}, {"attend": False}, {"evict": True}):
        job = replace(QUERY, **{"append": True, "slot": 3, "position": 500, **kind})
        whole = len(scenario.make_step(job).packet()) // CONFIG.lanes
        for beats in (-1, 1, 1 - whole, 70, -whole // 2):
            scenario.add(WaitIdle())
            scenario.dropped(job, beats)
            scenario.step(QUERY)
            scenario.check_errors()
            jobs += 2
        scenario.step(QUERY)
        scenario.dropped(job, -1)
        scenario.step(replace(QUERY, append=True, slot=5, position=60))
        jobs += 3
    scenario.add(WaitIdle(), Read(register="JOBS_DONE", expect=SLOTS + jobs))
    scenario.read_slots()
    scenario.run(stall_seed=stall_seed)


def test_tables_are_locked_while_jobs_run():
    """Settings cannot change, nor slots be read, between START and the end; then they can."""
    scenario = filled()
    theta = {"register": "HEAD_TABLE.THETA", "indices": (0, 1)}
    locked = (
        Write(**theta, word=12_345, response="SLVERR"),
        Write(register="GAIN", indices=(0, 1, 0), word=7, response="SLVERR"),
        Read(**theta, expect=0, response="SLVERR"),
        Read(register="SLOT_MASS", indices=(1, 2), expect=0, response="SLVERR"),
        Read(register="SLOT_POSITION", indices=(1, 2), expect=0, response="SLVERR"),
    )
    scenario.add(WaitIdle())
    packet, answer = scenario.start(QUERY)
    scenario.add(*locked, packet, Delay(40), *locked, ExpectPacket(answer))
    scenario.errors.add("write_busy")
    scenario.check_errors()
    scenario.add(Read(**theta, expect=0), Write(**theta, word=12_345), Read(**theta, expect=12_345))
    scenario.model.settings[0, 1] = replace(SETTINGS[0, 1], theta=12_345)
    scenario.step(QUERY)
    scenario.read_slots()
    scenario.run()


def test_addresses_that_do_not_exist_are_refused():
    registers = RegisterMap(CONFIG)
    last = {name: [size - 1 for size in registers.register(name).dimensions] for name in registers.registers}
    tables = (
        "HEAD_TABLE.THETA",
        "SLOT_MASS",
        "SLOT_POSITION",
        "JOB_HEADS.SUMMARY",
        "JOB_SLOTS",
    )  # the gains fill their window
    holes = [
        registers.address("JOB_STATE") + 4,
        registers.address(f"{registers.counters[-1]}.HI") + 4,
        registers.address("HEAD_TABLE.SINK", 0, 0) + 4,
        *(registers.address(name, *last[name]) + registers.register(name).strides[-1] for name in tables),
        *(registers.address(name, 0, 0) + registers.window - 4 for name in tables),
        7 * registers.window,
        (1 << registers.address_width) - 4,
    ]
    scenario = filled(3)
    for address in holes:
        scenario.add(
            Read(register=address, expect=0, response="SLVERR"),
            Write(register=address, word=0xFFFF_FFFF, response="SLVERR"),
        )
        scenario.errors.add("bad_address")
        scenario.step(replace(QUERY, n=3))
        scenario.check_errors()
    for name in ("ID", "STATUS", "JOBS_DONE", "BUSY_CYCLES.LO"):
        scenario.add(Write(register=name, word=0, response="SLVERR"))
    scenario.add(Write(register="SLOT_MASS", indices=(0, 0), word=0, response="SLVERR"))
    scenario.add(Read(register="COUNTERS_CLEAR", expect=0, response="SLVERR"))
    scenario.errors.add("bad_address")
    scenario.read_slots()
    scenario.run(stall_seed=7)


@pytest.mark.parametrize("stall_seed", [None, 8])
def test_a_full_queue_refuses_and_goes_on(stall_seed):
    scenario = filled()
    for _ in range(2):
        scenario.add(WaitIdle())
        jobs = [replace(QUERY, n=n + 1, append=True, slot=n, position=50) for n in range(CONFIG.job_queue)]
        started = [scenario.start(job) for job in jobs]
        word = RegisterMap(CONFIG).encode("STATUS", busy=1, queued=CONFIG.job_queue)
        scenario.add(Read(register="STATUS", expect=word))
        for _ in range(3):
            scenario.refused(QUERY, "queue_full")
        scenario.add(Read(register="STATUS", expect=word))
        scenario.add(*(packet for packet, _ in started), *(ExpectPacket(answer) for _, answer in started))
        scenario.check_errors()
    append(scenario, 5)
    scenario.read_slots()
    scenario.run(stall_seed=stall_seed)


RESET_JOBS = {
    "query": QUERY,
    "append": replace(QUERY, append=True, slot=SLOTS - 1, position=20),
    "evict": replace(QUERY, append=True, evict=True, metric=Metric.RATE, position=20),
    "context": replace(QUERY, normaliser=Normaliser.NONE),
}


def duration(job: Job) -> int:
    """Cycles of the job alone, from START to the last beat of its answer."""
    times = []
    for repeats in (1, 2):
        scenario = filled()
        scenario.add(*[WaitIdle(), Delay(10)] * 2)
        for _ in range(repeats):
            scenario.add(WaitIdle())
            scenario.step(job)
        times.append(scenario.run().cycles)
    return times[1] - times[0]


@pytest.mark.parametrize("name", RESET_JOBS)
def test_soft_reset_in_mid_job(name):
    """At many moments of a job: its answer ends where it stands, and a new sequence in the same store is exact."""
    job, whole = RESET_JOBS[name], duration(RESET_JOBS[name])
    moments = [whole * part // 16 for part in range(3, 13)]
    scenario = filled()
    scenario.uncounted()
    aborted, first = [], []
    for moment in moments:
        scenario.add(WaitIdle())
        packet, answer = scenario.start(job)
        aborted.append(answer)
        scenario.add(packet, Delay(moment), SOFT_RESET, Read(register="STATUS", expect=CONFIG.job_queue << 16))
        scenario.model.elements[:] = 0
        packet, answer = scenario.start(Job(n=1, head_dim=D, normaliser=Normaliser.SUM))
        first.append(answer)
        scenario.add(packet, ExpectPacket())
        append(scenario, SLOTS)
        scenario.read_slots()
    packets = scenario.run().packets
    cut = [len(packet) - len(answer) for packet, answer in zip(packets, first, strict=True)]
    for packet, length, old, new in zip(packets, cut, aborted, first, strict=True):
        assert packet == old[:length] + new
    assert 0 < max(cut) < len(aborted[0])
    assert min(cut) == 0


@pytest.mark.parametrize("beats", [1, 9, 17])
def test_soft_reset_in_mid_packet(beats):
    """What is left of the packet is taken and dropped by the next job, as any packet that is too short."""
    scenario = filled()
    scenario.uncounted()
    scenario.add(WaitIdle())
    job = replace(QUERY, append=True, slot=2)
    packet, _ = scenario.start(job)
    scenario.add(packet, Delay(beats), SOFT_RESET, Read(register="STATUS", expect=CONFIG.job_queue << 16))
    scenario.add(START)
    scenario.errors.add("packet_short")
    scenario.check_errors()
    append(scenario, SLOTS)
    scenario.step(QUERY)
    scenario.read_slots()
    scenario.run()


def test_soft_reset_empties_the_queue():
    scenario = filled()
    scenario.uncounted()
    scenario.add(WaitIdle(), SetJob(QUERY), *[START] * CONFIG.job_queue)
    scenario.add(SOFT_RESET, Read(register="STATUS", expect=CONFIG.job_queue << 16))
    scenario.step(QUERY)
    scenario.read_slots()
    scenario.run()


def test_a_packet_before_its_job_waits():
    """The input stream is held until a job wants its packet."""
    scenario = filled()
    scenario.add(WaitIdle())
    step = scenario.make_step(QUERY)
    scenario.add(Packet(step.packet()), Delay(200), Read(register="STATUS", expect=CONFIG.job_queue << 16))
    scenario.add(SetJob(QUERY), START, ExpectPacket(scenario.answer(step)))
    append(scenario, 2)
    scenario.run()


def test_waiting_for_a_packet_is_counted():
    """A job that waits 1000 cycles for its packet is busy, and waits for input."""
    scenario = filled()
    scenario.add(WaitIdle(), Write(register="COUNTERS_CLEAR", word=1))
    scenario.uncounted()
    packet, answer = scenario.start(QUERY)
    scenario.add(Delay(1000), packet, ExpectPacket(answer))
    counters = scenario.run().counters
    assert 1000 <= counters["INPUT_WAIT_CYCLES"] < 1100
    assert counters["BUSY_CYCLES"] > 1000


def test_interrupts_tell_of_jobs_and_errors():
    scenario = filled(2)
    both = RegisterMap(CONFIG).encode("IRQ_STATUS", job_done=1, error=1)
    scenario.add(WaitIdle(), Write(register="IRQ_STATUS", word=both), Write(register="IRQ_ENABLE", word=both))
    scenario.add(WaitInterrupt(level=False))
    packet, answer = scenario.start(replace(QUERY, n=2))
    done = Write(register="IRQ_STATUS", word=1)
    scenario.add(packet, WaitInterrupt(), ExpectPacket(answer), Read(register="IRQ_STATUS", expect=1), done)
    scenario.add(WaitInterrupt(level=False))
    scenario.refused(Job(n=0, head_dim=D))
    scenario.add(WaitInterrupt(), Read(register="IRQ_STATUS", expect=2), Write(register="IRQ_STATUS", word=2))
    scenario.add(WaitInterrupt(level=False))
    scenario.dropped(replace(QUERY, n=2), -1)
    scenario.add(WaitIdle(), Read(register="IRQ_STATUS", expect=both))
    scenario.run()
