"""STEPs, on a model of the system: jobs, replies, packets that are dropped, steps that are undone."""

import random

import pytest

from reluctant.golden.gating import GatingSettings, HeadGate
from reluctant.golden.policies import Policy
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.messages import Operation, Status
from reluctant.hdl.system_config import SystemConfig

from .firmware_model import GOOD, LONG, SHORT, Machine
from .test_firmware_commands import OK, opening

UNIT = UnitConfig(lanes=8, head_dim=32, slots=64, heads=4, kv_heads=2, profiles=3)
CONFIG = SystemConfig(unit=UNIT, sequences=3)


@pytest.fixture
def machine():
    machine = Machine(CONFIG)
    assert machine.ask(Operation.OPEN, 0, 0, *opening(Policy.REFUSE, layers=3, budget=8)) == (*OK, 0)
    return machine


def positions(machine):
    return [(job.control["profile"], job.position) for job in machine.jobs]


def test_rows_fill_the_region(machine):
    for t in range(8):
        slots = t | t << 16
        assert machine.step(0, 1) == (*OK, t + 1, t, 1, 0, slots)
    assert [(job.n, job.slot, job.base) for job in machine.jobs] == [(t + 1, t, 8) for t in range(8)]
    assert {(job.control["append"], job.control["attend"]) for job in machine.jobs} == {(1, 1)}
    assert machine.step(0, 1) == (Status.FULL, 0, 0, 0, 0, 0, 0)
    assert machine.dropped == 1
    assert machine.ask(Operation.STATE, 0, 1) == (*OK, 8, 8, 8, 0, 0)


def test_tokens_of_one_step_follow_each_other(machine):
    assert machine.step(0, 2, count=7, only_append=1) == (*OK, 7, 6, 7, 0, 6 | 6 << 16)
    assert [job.position for job in machine.jobs] == list(range(7))
    assert {job.control["attend"] for job in machine.jobs} == {0}


def test_a_full_region_ends_a_step(machine):
    assert machine.step(0, 0, count=12) == (Status.FULL, 0, 8, 7, 8, 0, 0)
    assert (len(machine.jobs), machine.dropped, len(machine.packets)) == (8, 4, 0)
    assert machine.ask(Operation.STATE, 0, 0)[:4] == (*OK, 8, 8)


def test_positions_end():
    machine = Machine(SystemConfig(unit=UNIT.with_settings(position_bits=8)))
    machine.ask(Operation.OPEN, 0, 0, *opening(budget=8))
    assert machine.step(count=256) == (*OK, 8, 255, 256, 0, 7 | 7 << 16)
    assert machine.step() == (Status.FULL, 0, 0, 0, 0, 0, 0)
    assert machine.dropped == 1


def test_evicted_rows_make_room():
    machine = Machine(CONFIG, weights=lambda job, kv_head, slot: 1 + (slot + kv_head * 3) % 5)
    machine.ask(Operation.OPEN, 0, 0, *opening(Policy.H2O, budget=6, sinks=1, recent=2))
    for t in range(30):
        status, detail, rows, position, done, off, slots = machine.step()
        assert (status, detail, rows, position, done, off) == (*OK, min(t + 1, 6), t, 1, 0)
        assert [slots & 0xFFFF, slots >> 16] == machine.jobs[-1].slots
    for kept in machine.position:
        assert kept[0] == 0
        assert {27, 28, 29} <= set(kept[:6])
    assert machine.jobs[-1].slots[0] != machine.jobs[-1].slots[1]


def test_flags_of_dms_are_those_of_the_step():
    machine = Machine(CONFIG)
    machine.ask(Operation.OPEN, 0, 0, *opening(Policy.DMS, budget=20, recent=3))
    machine.step(count=12, flags=0b0000_0110)
    evicted = {job.position: job.sinks for job in machine.jobs if job.control["evict"]}
    assert evicted == {5: 1, 6: 2}
    assert machine.ask(Operation.STATE, 0)[2:4] == (10, 12)


def test_proxies_of_nacl_are_not_silent():
    machine = Machine(CONFIG)
    machine.ask(Operation.OPEN, 0, 0, *opening(Policy.NACL, budget=20, stride=4))
    machine.step(count=8)
    assert [job.control["silent"] for job in machine.jobs] == [1, 1, 1, 0, 1, 1, 1, 0]


@pytest.mark.parametrize("packet", [SHORT, LONG])
@pytest.mark.parametrize("policy", Policy)
def test_a_step_with_a_bad_packet_did_not_happen(policy, packet):
    changes = {"stride": 2} if policy in (Policy.BUZZ, Policy.NACL) else {}
    changes |= {"share": 256, "seed": 5} if policy is Policy.NACL else {}
    tried, plain = Machine(CONFIG), Machine(CONFIG)
    for machine in (tried, plain):
        machine.ask(Operation.OPEN, 0, 0, *opening(policy, budget=7, **changes))
    for t in range(25):
        if policy is Policy.REFUSE and t == 7:
            break
        before = tried.ask(Operation.STATE, 0)
        if t % 3 != 1:
            answer = tried.ask(Operation.STEP, 0, 0, 1, t & 1, 0, packets=[packet])
            assert answer == (Status.BAD_PACKET, 0, 0, 0, 0, 0, 0)
            assert tried.ask(Operation.STATE, 0) == before
        assert tried.step(flags=t & 1) == plain.step(flags=t & 1)
    assert tried.position == plain.position


def test_a_bad_packet_between_others_damages_the_sequence(machine):
    packets = [GOOD, SHORT, GOOD, GOOD, GOOD, GOOD]
    status, detail, _, _, done, *rest = machine.ask(Operation.STEP, 0, 0, 6, 0, 0, packets=packets)
    assert (status, detail, *rest) == (Status.BAD_PACKET, 0, 0, 0)
    assert done == len(machine.jobs) - 1
    assert not machine.packets
    assert len(machine.jobs) + machine.dropped == 6
    assert machine.ask(Operation.STATE, 0)[-1] == 1
    assert machine.step() == (Status.DAMAGED, 0, 0, 0, 0, 0, 0)
    assert machine.ask(Operation.RESET, 0) == OK
    assert machine.step() == (*OK, 1, 0, 1, 0, 0)


def test_the_last_packet_may_be_sent_again(machine):
    assert machine.ask(Operation.STEP, 0, 0, 3, 0, 0, packets=[GOOD, GOOD, LONG]) == (
        Status.BAD_PACKET,
        0,
        2,
        1,
        2,
        0,
        0,
    )
    assert machine.step() == (*OK, 3, 2, 1, 0, 2 | 2 << 16)


def test_a_bad_packet_spares_other_regions(machine):
    machine.packets.extend([SHORT, GOOD, GOOD])
    for layer in range(3):
        machine.send(Operation.STEP, 0, layer, 1, 0, 0, tag=layer)
    machine.run()
    assert [machine.answer(Operation.STEP, layer)[0] for layer in range(3)] == [Status.BAD_PACKET, 0, 0]
    assert machine.ask(Operation.STATE, 0, 0)[2:4] == (0, 0)
    assert machine.ask(Operation.STATE, 0, 1)[2:4] == (1, 1)
    assert machine.step(0, 0) == (*OK, 1, 0, 1, 0, 0)


def test_steps_behind_a_failed_one_say_so(machine):
    for tag in range(3):
        machine.send(Operation.STEP, 0, 0, 1, 0, 0, tag=tag)
    machine.run()
    machine.packets.extend([LONG, GOOD, GOOD])
    machine.run()
    answers = [machine.answer(tag=tag) for tag in range(3)]
    assert [answer[0] for answer in answers] == [Status.BAD_PACKET, Status.DAMAGED, Status.DAMAGED]
    assert [answer[4] for answer in answers] == [0, 1, 1]


def test_no_victim_damages_the_sequence():
    machine = Machine(CONFIG)
    machine.ask(Operation.OPEN, 0, 0, *opening(budget=4))
    machine.step(count=4)
    machine.position[1][:4] = [100] * 4
    assert machine.step()[0] == Status.DAMAGED
    assert machine.step()[0] == Status.DAMAGED


def test_a_packet_that_does_not_come_is_given_up(machine):
    machine.ask(Operation.SET_TIMEOUT, 0, 0, 8)
    machine.send(Operation.STEP, 0, 0, 1, 0, 0)
    machine.run()
    assert not machine.replies
    machine.impatient = True
    machine.run()
    assert machine.answer() == (Status.TIMEOUT, 0, 0, 0, 0, 0, 0)
    machine.impatient = False
    assert machine.ask(Operation.STEP, 0, 0, 1, 0, 0, packets=[GOOD, GOOD]) == (*OK, 1, 0, 1, 0, 0)
    assert len(machine.packets) == 0


def test_only_the_late_packet_is_late(machine):
    machine.ask(Operation.SET_TIMEOUT, 0, 0, 8)
    machine.packets.extend([GOOD, SHORT])
    for layer in range(3):
        machine.send(Operation.STEP, 0, layer, 1, 0, 0, tag=layer)
    machine.go(100_000)
    assert machine.take_packet()
    assert machine.take_packet()
    machine.impatient = True
    machine.job_event = True
    machine.go(100_000)
    machine.impatient = False
    machine.run()
    statuses = [machine.answer(tag=layer)[0] for layer in range(3)]
    assert statuses == [Status.OK, Status.BAD_PACKET, Status.TIMEOUT]


def test_a_short_packet_behind_a_late_one_is_not_late(machine):
    machine.ask(Operation.SET_TIMEOUT, 0, 0, 8)
    for layer in range(2):
        machine.send(Operation.STEP, 0, layer, 1, 0, 0, tag=layer)
    machine.go(100_000)
    machine.impatient = True
    machine.go(100_000)
    machine.impatient = False
    machine.packets.extend([GOOD, SHORT])
    machine.run()
    assert [machine.answer(tag=layer)[0] for layer in range(2)] == [Status.TIMEOUT, Status.BAD_PACKET]


def test_one_packet_is_given_up_at_a_time(machine):
    """What waits behind the one given up gets its own time, from the end of a job on."""
    machine.ask(Operation.SET_TIMEOUT, 0, 0, 8)
    machine.packets.append(GOOD)
    for layer in range(3):
        machine.send(Operation.STEP, 0, layer, 1, 0, 0, tag=layer)
    machine.go(100_000)
    assert machine.take_packet()
    machine.impatient = True
    for _ in range(5):
        machine.go(100_000)
    assert machine.owed == 1
    machine.run()
    assert [machine.answer(tag=layer)[0] for layer in range(3)] == [Status.OK, Status.TIMEOUT, Status.TIMEOUT]


def test_nothing_is_late_without_a_timeout(machine):
    machine.impatient = True
    machine.send(Operation.STEP, 0, 0, 1, 0, 0)
    machine.run()
    assert not machine.replies
    assert machine.owed == 0


def test_four_jobs_are_in_flight(machine):
    machine.send(Operation.STEP, 0, 0, 8, 0, 0)
    machine.run()
    assert len(machine.queue) == 4
    machine.packets.append(GOOD)
    machine.run()
    assert len(machine.jobs) == 5
    machine.packets.extend([GOOD] * 7)
    machine.run()
    assert machine.answer() == (*OK, 8, 7, 8, 0, 7 | 7 << 16)


def test_a_short_queue_is_not_overrun():
    machine = Machine(SystemConfig(unit=UNIT.with_settings(job_queue=2)))
    machine.ask(Operation.OPEN, 0, 0, *opening(budget=8))
    machine.send(Operation.STEP, 0, 0, 8, 0, 0)
    machine.run()
    assert len(machine.queue) == 2
    machine.packets.extend([GOOD] * 8)
    machine.run()
    assert machine.answer()[0] == Status.OK
    assert machine.restarts == 0


def test_replies_wait_for_room(machine):
    """The host takes no reply: no job is started whose reply would find no room."""
    for tag in range(4):
        machine.send(Operation.STEP, 0, tag % 3, 1, 0, 0, tag=tag)
        machine.packets.append(GOOD)
    machine.run()
    assert len(machine.replies) == 4
    for tag in range(4, 8):
        machine.send(
            Operation.STEP if tag != 5 else Operation.INFO, 0, tag % 3, *([1, 0, 0] if tag != 5 else []), tag=tag
        )
        machine.packets.extend([GOOD] * (tag != 5))
    machine.run()
    assert (len(machine.jobs), len(machine.commands)) == (4, 4)
    for tag in range(8):
        assert machine.answer(tag=tag)[0] == Status.OK
        machine.run()
        assert len(machine.replies) == min(4, 7 - tag)


def test_commands_wait_for_the_jobs_before(machine):
    machine.send(Operation.STEP, 0, 0, 1, 0, 0, tag=1)
    machine.send(Operation.SET_HEAD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, tag=2)
    machine.send(Operation.STEP, 0, 0, 1, 0, 0, tag=3)
    machine.run()
    assert (len(machine.jobs), machine.table) == (1, {})
    machine.packets.append(GOOD)
    machine.run()
    assert machine.answer(tag=1)[0] == Status.OK
    assert machine.answer(tag=2) == OK
    assert (len(machine.jobs), machine.restarts) == (2, 0)


def test_the_core_sleeps(machine):
    machine.run()
    kicks = machine.kicks
    machine.run()
    assert machine.asleep
    assert machine.kicks == kicks


@pytest.mark.parametrize(("active", "mass", "probe"), [(4, 0, 3), (0, 4000, 2), (6, 1600, 4), (1, 16, 1)])
def test_heads_are_gated_as_the_twin_says(active, mass, probe):
    source = random.Random(active * 7 + probe)
    seen = {}

    def scores(job, head):
        return seen.setdefault((id(job), head), (source.randint(0, 8), source.randint(0, 8000)))

    machine = Machine(CONFIG, scores=scores)
    machine.ask(Operation.SET_LAYER, 0, 1, 0b0100, 0, 32)
    gates = {"gate_active": active, "gate_mass": mass, "probe": probe}
    machine.ask(Operation.OPEN, 0, 0, *opening(layers=2, budget=8, **gates))
    twin = HeadGate(GatingSettings(active=active, mass=mass, probe=probe), [False, False, True, False])
    total = 0
    for t in range(60):
        off = sum(1 << head for head in range(4) if twin.off[head])
        if t % 7 == 3:
            assert machine.step(0, 1, only_append=1)[:2] == OK
            assert machine.jobs[-1].mask == 0b0100
            continue
        if t % 7 == 5:
            assert machine.ask(Operation.STEP, 0, 1, 1, 0, 0, packets=[SHORT])[0] == Status.BAD_PACKET
        assert machine.step(0, 1)[5] == off
        job = machine.jobs[-1]
        assert job.mask == 0b0100 | off
        twin.observe(*zip(*job.heads, strict=True))
        assert machine.ask(Operation.STATE, 0, 1)[5] == sum(1 << head for head in range(4) if twin.off[head])
        total += off.bit_count()
    assert (total > 0) == (probe > 1)


def test_gated_steps_of_a_region_wait_for_each_other():
    machine = Machine(CONFIG)
    machine.ask(Operation.OPEN, 0, 0, *opening(layers=2, budget=8, gate_active=1, probe=2))
    for layer in (0, 0, 1):
        machine.send(Operation.STEP, 0, layer, 1, 0, 0)
    machine.run()
    assert positions(machine) == [(0, 0)]
    machine.packets.append(GOOD)
    machine.run()
    assert positions(machine) == [(0, 0), (0, 1), (1, 0)]
