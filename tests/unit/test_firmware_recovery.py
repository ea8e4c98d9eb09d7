"""Restarts of the firmware, on a model of the system: what is kept, what is answered."""

import pytest

from reluctant.golden.policies import Policy
from reluctant.hdl.messages import Operation, Status
from reluctant.hdl.system_config import SystemConfig

from .firmware_model import COLD, GOOD, HOST, TRAP, WATCHDOG, Machine
from .test_firmware_commands import CONFIG, OK, opening

NOTHING = (0,) * 5


@pytest.fixture
def machine():
    machine = Machine(CONFIG)
    assert machine.ask(Operation.OPEN, 0, 0, *opening(layers=3)) == (*OK, 0)
    assert machine.ask(Operation.OPEN, 1, 0, *opening(Policy.H2O, budget=8, recent=2)) == (*OK, 24)
    assert machine.step(0, 1, count=3)[:2] == OK
    return machine


def damaged(machine, sequence):
    return machine.ask(Operation.STATE, sequence)[-1]


def test_a_command_that_trapped_is_answered(machine):
    machine.trap_at = ("write", machine.map.address("HEAD_TABLE.KAPPA", 0, 1))
    assert machine.ask(Operation.SET_HEAD, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0) == (Status.FAULT, 0)
    assert machine.restarts == 1
    assert not machine.commands
    assert machine.soft_resets == 1
    assert machine.ask(Operation.INFO)[-1] == 1
    assert (damaged(machine, 0), damaged(machine, 1)) == (0, 0)
    assert machine.step(0, 1) == (*OK, 4, 3, 1, 0, 3 | 3 << 16)


@pytest.mark.parametrize("place", ["JOB_BASE", "START"])
def test_a_step_that_trapped_is_answered(machine, place):
    """Jobs before it go on; what is left of its packets is dropped."""
    machine.send(Operation.STEP, 0, 0, 1, 0, 0, tag=1)
    machine.run()
    machine.trap_at = ("write", machine.map.address(place))
    machine.send(Operation.STEP, 1, 0, 5, 0, 0, tag=2)
    machine.run()
    machine.packets.extend([GOOD] * 6)
    machine.run()
    assert machine.answer(Operation.STEP, 1)[:2] == OK
    assert machine.answer(Operation.STEP, 2) == (Status.FAULT, 0, *NOTHING)
    assert (machine.restarts, machine.dropped, len(machine.packets)) == (1, 5, 0)
    assert (damaged(machine, 0), damaged(machine, 1)) == (0, 1)
    assert machine.step(1)[0] == Status.DAMAGED
    assert machine.ask(Operation.RESET, 1) == OK
    assert machine.step(1)[:2] == OK


def test_a_job_that_started_before_the_restart_is_known(machine):
    """The watchdog bites between START and its being counted: the job is looked at as any other."""
    machine.send(Operation.STEP, 1, 0, 3, 0, 0, tag=1)
    machine.stop_at = machine.map.address("START")
    machine.run()
    assert machine.restarts == 1
    machine.packets.extend([GOOD] * 3)
    machine.run()
    assert machine.answer(Operation.STEP, 1) == (Status.FAULT, 0, 1, 0, 1, 0, 0)
    assert machine.dropped == 2
    assert damaged(machine, 1) == 1
    assert machine.step(0, 1)[:4] == (*OK, 4, 3)


def test_a_last_job_that_started_before_the_restart_is_answered(machine):
    machine.send(Operation.STEP, 1, 0, 1, 0, 0, tag=1)
    machine.stop_at = machine.map.address("START")
    machine.packets.append(GOOD)
    machine.run()
    assert machine.restarts == 1
    assert machine.answer(Operation.STEP, 1) == (*OK, 1, 0, 1, 0, 0)
    assert damaged(machine, 1) == 0


@pytest.mark.parametrize("taken", [0, 1])
def test_a_restart_behind_a_reply_loses_no_other(machine, taken):
    """The core restarts between sending a reply and noting it, when the mailbox has room for just what is owed.

    Without room for it, the reply is not sent again; if the host took a message in between, it is.
    """
    for number in range(CONFIG.messages - 3):
        machine.send(Operation.INFO, tag=100 + number)
        machine.run()
    for tag in range(3):
        machine.send(Operation.STEP, 0, tag, 1, 0, 0, tag=tag)
        machine.run()
    machine.stop_at = ("own", machine.own.address("REPLY_SEND"))
    machine.packets.append(GOOD)
    while machine.stop_at:
        machine.go(1000)
        machine.tick()
    restarts = machine.restarts
    for number in range(taken):
        machine.answer(Operation.INFO, 100 + number)
    machine.packets.extend([GOOD] * 2)
    machine.run()
    for number in range(taken, CONFIG.messages - 3):
        machine.answer(Operation.INFO, 100 + number)
    again = [0] * taken
    assert [machine.answer(Operation.STEP, tag)[0] for tag in (0, *again)] == [
        Status.OK,
        *(Status.FAULT for _ in again),
    ]
    assert [machine.answer(Operation.STEP, tag)[:2] for tag in (1, 2)] == [OK] * 2
    assert (restarts, machine.restarts, len(machine.replies)) == (1, 1, 0)


def test_a_job_whose_log_traps_is_answered(machine):
    machine.step(1, 0, count=8)
    machine.trap_at = ("read", 6 * machine.map.window)
    while len(machine.jobs) % 4:
        machine.step(0, 2)
    machine.send(Operation.STEP, 1, 0, 1, 0, 0, tag=1)
    machine.send(Operation.STEP, 0, 0, 1, 0, 0, tag=2)
    machine.packets.extend([GOOD] * 2)
    machine.run()
    assert machine.answer(tag=1)[0] == Status.FAULT
    assert machine.answer(tag=2)[:2] == OK
    assert (damaged(machine, 0), damaged(machine, 1)) == (0, 1)


def test_the_host_restarts_the_core(machine):
    for tag, (sequence, count) in enumerate(((0, 1), (1, 6))):
        machine.send(Operation.STEP, sequence, 0, count, 0, 0, tag=tag)
    machine.send(Operation.INFO, tag=2)
    machine.run()
    machine.packets.append(GOOD)
    machine.run()
    assert machine.answer(tag=0)[:2] == OK
    machine.start(HOST)
    machine.run()
    assert machine.answer(tag=1) == (Status.ABORTED, 0, *NOTHING)
    assert machine.answer(tag=2)[-1] == 1
    assert (machine.soft_resets, len(machine.verdicts), machine.dropped) == (2, 0, 0)
    assert (damaged(machine, 0), damaged(machine, 1)) == (0, 1)
    assert machine.step(0, 1) == (*OK, 4, 3, 1, 0, 3 | 3 << 16)


def test_steps_in_flight_are_aborted_in_order(machine):
    for tag in range(4):
        machine.send(Operation.STEP, tag & 1, 0, 1, 0, 0, tag=tag)
    machine.run()
    machine.start(HOST)
    machine.run()
    assert [machine.answer(tag=tag) for tag in range(4)] == [(Status.ABORTED, 0, *NOTHING)] * 4
    assert (damaged(machine, 0), damaged(machine, 1)) == (1, 1)


def test_steps_in_the_mailbox_are_aborted_too(machine):
    """Their packets would not be told from those of the steps before; what was sent after the restart is done."""
    machine.send(Operation.STEP, 0, 0, 6, 0, 0, tag=0)
    machine.run()
    machine.send(Operation.STEP, 1, 0, 2, 0, 0, tag=1)
    machine.send(Operation.INFO, tag=2)
    machine.send(Operation.STEP, 2, 0, 1, 0, 0, tag=3)
    machine.start(HOST)
    machine.run()
    assert [machine.answer(tag=tag)[0] for tag in (0, 1)] == [Status.ABORTED] * 2
    assert machine.answer(tag=2)[0] == Status.OK
    assert machine.answer(tag=3)[0] == Status.CLOSED
    machine.packets.extend([GOOD] * 3)
    machine.run()
    assert (machine.dropped, len(machine.packets)) == (3, 0)
    assert (damaged(machine, 0), damaged(machine, 1)) == (1, 1)
    assert machine.ask(Operation.RESET, 1)[0] == Status.OK
    assert machine.step(1) == (*OK, 1, 0, 1, 0, 0)


@pytest.mark.parametrize("cause", [WATCHDOG, TRAP])
def test_other_restarts_leave_jobs_alone(machine, cause):
    for tag in range(3):
        machine.send(Operation.STEP, 0, tag, 1, 0, 0, tag=tag)
    machine.run()
    machine.start(cause)
    machine.run()
    machine.packets.extend([GOOD] * 3)
    machine.run()
    assert [machine.answer(tag=tag)[0] for tag in range(3)] == [Status.OK] * 3
    assert damaged(machine, 0) == 0
    assert machine.ask(Operation.INFO)[-1] == 1


def test_the_timeout_outlives_a_restart(machine):
    machine.ask(Operation.SET_TIMEOUT, 0, 0, 9)
    machine.patience = 0
    machine.start(TRAP)
    machine.run()
    assert machine.patience == 9


def test_a_cold_start_forgets(machine):
    machine.ask(Operation.SET_TIMEOUT, 0, 0, 9)
    machine.ask(Operation.SET_LAYER, 0, 0, 0b1010, 1, 16)
    machine.send(Operation.STEP, 0, 0, 1, 0, 0)
    machine.run()
    machine.start(COLD)
    assert machine.ask(Operation.INFO) == (*OK, 0, 64, 64, 0)
    assert (machine.patience, machine.soft_resets, len(machine.verdicts)) == (0, 2, 0)
    assert machine.ask(Operation.OPEN, 0, 0, *opening()) == (*OK, 0)
    assert machine.step() == (*OK, 1, 0, 1, 0, 0)
    assert (machine.jobs[-1].mask, machine.jobs[-1].head_dim) == (0, 32)
    assert machine.restarts == 0


@pytest.mark.parametrize("byte", [0x00, 0xFF, 0x5A])
def test_broken_memory_is_forgotten(machine, byte):
    start = len(machine.firmware.image)
    machine.core.mem_write(start, bytes([byte]) * machine.firmware.data_bytes)
    machine.start(TRAP)
    assert machine.ask(Operation.INFO) == (*OK, 0, 64, 64, 0)


def test_another_firmware_starts_cold(machine):
    other = Machine(SystemConfig(unit=CONFIG.unit, sequences=CONFIG.sequences, watchdog=5000))
    assert other.firmware.data_bytes == machine.firmware.data_bytes
    machine.core.mem_write(0, other.firmware.image)
    machine.start(HOST)
    assert machine.ask(Operation.INFO) == (*OK, 0, 64, 64, 0)


def test_a_trap_while_recovering_starts_cold(machine):
    machine.trap_at = ("own", machine.own.address("GATE_TIMEOUT"))
    machine.start(TRAP)
    assert machine.ask(Operation.INFO) == (*OK, 0, 64, 64, 0)
    assert machine.restarts == 1


def test_a_wild_jump_restarts(machine):
    """trap() is what mtvec points to; it asks for the restart."""
    vector = machine.trap_vector()
    assert 0 < vector < len(machine.firmware.image)
    assert vector % 4 == 0
    machine.jump(vector)
    machine.run()
    assert machine.restarts == 1
    assert machine.ask(Operation.INFO)[-1] == 1
