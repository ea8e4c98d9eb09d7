"""The job log: what became of each of the latest four jobs, in whatever order they end, read while others run."""

from dataclasses import replace

import pytest

from reluctant.golden import formats
from reluctant.golden.formats import Metric, Mode, Normaliser
from reluctant.hdl.register_map import RegisterMap
from reluctant.sim.program import Delay, ExpectPacket, HeadSettings, Job, Packet, Read, SetJob, WaitIdle

from .layers import SMALL, START, Scenario

CONFIG = SMALL
D, SLOTS, HEADS, KV_HEADS = CONFIG.head_dim, CONFIG.slots, CONFIG.heads, CONFIG.kv_heads
SETTINGS = {
    (0, head): HeadSettings(mode=mode, theta=theta, kappa=formats.encode_kappa(2.0**-9), min_active=3)
    for head, (mode, theta) in enumerate(
        ((Mode.RELU, -100), (Mode.SOFTMAX, 0), (Mode.HYBRID, 12_000), (Mode.RELU, 200_000))
    )
}
QUERY = Job(n=SLOTS, head_dim=D, append=False, normaliser=Normaliser.SUM)
APPEND = Job(n=SLOTS, head_dim=D, attend=False, position=50)
EVICT = replace(QUERY, append=True, evict=True, metric=Metric.MASS, position=100)


def filled() -> Scenario:
    """A full store; 13 jobs, so that the next one has tag 1."""
    scenario = Scenario(CONFIG, SETTINGS)
    for row in range(SLOTS):
        scenario.step(Job(n=row + 1, head_dim=D, slot=row, position=row))
    scenario.read_log()
    return scenario


@pytest.mark.parametrize("stall_seed", [None, 3])
def test_every_kind_of_job(stall_seed):
    """Four jobs at a time, of every kind and way to end: heads, slots and states are those of the model."""
    scenario = filled()
    nothing = {"sinks": SLOTS + 100}
    kinds = [
        QUERY,
        replace(QUERY, mask=0b0110, emit_context=True),
        replace(QUERY, mask=0b1111),
        replace(QUERY, append=True, slot=3, position=20),
        replace(QUERY, n=5, base=4, append=True, slot=2, position=21),
        replace(APPEND, slot=7),
        EVICT,
        replace(EVICT, n=6, base=5),
        replace(EVICT, attend=False),
        replace(EVICT, **nothing),
        replace(EVICT, attend=False, **nothing),
    ]
    for shift in range(4):
        for first in range(0, len(kinds), 4):
            scenario.add(WaitIdle())
            for job in kinds[first : first + 4]:
                scenario.step(job)
            scenario.read_log()
        scenario.step(kinds[shift])
        scenario.dropped(replace(APPEND, slot=1), -1)
        scenario.read_log()
        scenario.dropped(QUERY, 3)
        scenario.read_log()
    scenario.read_slots()
    scenario.run(stall_seed=stall_seed)
    assert len(scenario.model.log) == SLOTS + 4 * (len(kinds) + 3)


def test_jobs_end_out_of_order():
    """While a job's answer is not taken the one behind it is dropped, and the log says so; then the first ends."""
    scenario = filled()
    encode = RegisterMap(CONFIG).encode
    old = {"done0": 1, "done2": 1, "done3": 1}  # of the jobs that filled the store
    scenario.add(WaitIdle(), Read(register="JOB_STATE", expect=encode("JOB_STATE", done1=0, **old), mask=0xFFFF_00FF))
    packet, answer = scenario.start(QUERY)  # tag 1
    scenario.add(Read(register="JOB_STATE", expect=encode("JOB_STATE", **old)))
    short = scenario.make_step(APPEND).packet()[: -CONFIG.lanes]
    scenario.add(SetJob(APPEND), START)  # tag 2
    scenario.model.drop("short")
    del old["done2"]
    scenario.add(Read(register="JOB_STATE", expect=encode("JOB_STATE", **old)))
    scenario.add(packet, Packet(short), Delay(len(short) // CONFIG.lanes + len(packet.data) // CONFIG.lanes + 20))
    scenario.add(Read(register="JOB_STATE", expect=encode("JOB_STATE", done2=1, short2=1, **old)))
    scenario.add(ExpectPacket(answer))
    scenario.read_log()
    scenario.run()


def test_a_job_that_waits_is_not_done():
    """A job without its packet, beside the log of the three before it, which stays readable."""
    scenario = filled()
    encode = RegisterMap(CONFIG).encode
    scenario.add(WaitIdle())
    packet, answer = scenario.start(QUERY)
    state = encode("JOB_STATE", done0=1, done2=1, done3=1)
    for _ in range(3):
        scenario.add(Read(register="JOB_STATE", expect=state), Delay(50))
    for (name, index), word in scenario.model.log[-2][1].items():
        scenario.add(Read(register=name, indices=((len(scenario.model.log) - 2) % 4, index), expect=word))
    scenario.add(packet, ExpectPacket(answer))
    scenario.read_log()
    scenario.run()


def test_silent_jobs_earn_nothing():
    """Weights of silent jobs do not count, those of the jobs before and behind do; all answers are exact."""
    scenario = Scenario(CONFIG, SETTINGS)
    for row in range(SLOTS):
        scenario.step(Job(n=row + 1, head_dim=D, slot=row, position=row, silent=row % 3 == 1))
    before = scenario.model.mass.copy()
    for number in range(12):
        scenario.step(replace(QUERY, silent=number % 4 != 3))
    assert (scenario.model.mass > before).any()
    loud = scenario.model.mass.copy()
    scenario.step(replace(QUERY, silent=True))
    assert (scenario.model.mass == loud).all()
    scenario.step(EVICT)
    scenario.read_slots()
    scenario.run(stall_seed=1)
