"""What the firmware answers to commands other than STEP, on a model of the system."""

import pytest

from reluctant.golden.policies import Policy
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.messages import SLOTS_LIMIT, STEP_LIMIT, Operation, Status
from reluctant.hdl.system_config import SystemConfig

from .firmware_model import Machine

UNIT = UnitConfig(lanes=8, head_dim=32, slots=64, heads=4, kv_heads=2, profiles=3)
CONFIG = SystemConfig(unit=UNIT, sequences=3)
OK = (Status.OK, 0)


def opening(policy=Policy.STREAMING, layers=1, budget=8, **changes):
    """Words of OPEN."""
    names = ("sinks", "recent", "stride", "share", "seed", "gate_active", "gate_mass", "probe")
    values = dict.fromkeys(names, 0) | {"normalised": 0} | changes
    return (policy | layers << 8 | values["normalised"] << 16, budget, *(values[name] for name in names))


@pytest.fixture
def machine():
    return Machine(CONFIG)


def test_sequences_open_and_close(machine):
    assert machine.ask(Operation.INFO) == (*OK, 0, 64, 64, 0)
    assert machine.ask(Operation.OPEN, 1, 0, *opening(layers=3, budget=8)) == (*OK, 0)
    assert machine.ask(Operation.OPEN, 0, 0, *opening(budget=16)) == (*OK, 24)
    assert machine.ask(Operation.OPEN, 1, 0, *opening()) == (Status.ALREADY_OPEN, 0)
    assert machine.ask(Operation.OPEN, 2, 0, *opening(budget=25)) == (Status.NO_SPACE, 2)
    assert machine.ask(Operation.INFO) == (*OK, 0b011, 24, 24, 0)
    assert machine.ask(Operation.CLOSE, 1) == OK
    assert machine.ask(Operation.CLOSE, 1) == (Status.CLOSED, 0)
    assert machine.ask(Operation.INFO) == (*OK, 0b001, 48, 24, 0)
    assert machine.ask(Operation.OPEN, 2, 0, *opening(layers=2, budget=12)) == (*OK, 0)
    for operation in (Operation.OPEN, Operation.CLOSE, Operation.RESET, Operation.STATE, Operation.SLOTS):
        words = {Operation.OPEN: opening(), Operation.SLOTS: (0, 0, 1)}.get(operation, ())
        assert machine.ask(operation, 3, 0, *words) == (Status.BAD_SEQUENCE, 0)
    assert machine.restarts == 0


@pytest.mark.parametrize(
    ("words", "status", "detail"),
    [
        (opening(6), Status.BAD_POLICY, 1),
        (opening(layers=0), Status.BAD_VALUE, 1),
        (opening(layers=4), Status.BAD_VALUE, 1),
        (opening(normalised=1), Status.BAD_VALUE, 1),
        (opening(Policy.H2O, normalised=2), Status.BAD_VALUE, 1),
        (opening(budget=0), Status.BAD_VALUE, 2),
        (opening(budget=65), Status.BAD_VALUE, 2),
        (opening(budget=33, layers=2), Status.NO_SPACE, 2),
        (opening(sinks=8), Status.BAD_VALUE, 3),
        (opening(recent=1), Status.BAD_VALUE, 4),
        (opening(Policy.H2O, sinks=4, recent=4), Status.BAD_VALUE, 4),
        (opening(Policy.BUZZ), Status.BAD_VALUE, 5),
        (opening(Policy.NACL, stride=3), Status.BAD_VALUE, 5),
        (opening(Policy.NACL, stride=4, share=257), Status.BAD_VALUE, 6),
        (opening(seed=1), Status.BAD_VALUE, 7),
        (opening(gate_active=65536, probe=1), Status.BAD_VALUE, 8),
        (opening(gate_mass=2**31, probe=1), Status.BAD_VALUE, 9),
        (opening(gate_mass=1, probe=0), Status.BAD_VALUE, 10),
        (opening(gate_mass=1, probe=256), Status.BAD_VALUE, 10),
        (opening()[:-1], Status.BAD_LENGTH, 0),
        ((*opening(), 0), Status.BAD_LENGTH, 0),
    ],
)
def test_a_sequence_is_not_opened_with_wrong_words(machine, words, status, detail):
    assert machine.ask(Operation.OPEN, 0, 0, *words) == (status, detail)
    assert machine.ask(Operation.INFO) == (*OK, 0, 64, 64, 0)


def test_operations_and_lengths_are_checked(machine):
    assert machine.ask(len(Operation)) == (Status.BAD_OPERATION, 0)
    assert machine.ask(255) == (Status.BAD_OPERATION, 0)
    right = {Operation.OPEN: 10, Operation.SET_HEAD: 8, Operation.SET_LAYER: 3, Operation.SLOTS: 3}
    right |= {Operation.SET_TIMEOUT: 1, Operation.COUNTERS: 1}
    for operation in set(Operation) - {Operation.SET_GAIN, Operation.STEP}:
        words = right.get(operation, 0)
        assert machine.ask(operation, 0, 0, *[0] * (words + 1)) == (Status.BAD_LENGTH, 0)
        if words:
            assert machine.ask(operation, 0, 0, *[0] * (words - 1)) == (Status.BAD_LENGTH, 0)
    assert machine.ask(Operation.SET_GAIN, 0, 0, 0) == (Status.BAD_LENGTH, 0)


HEAD = (1, 2**32 - 5, 2, 0x3FFFF, 64, 77, 0xFF8000, 0xFFFFFF)


def test_head_settings_reach_the_table(machine):
    assert machine.ask(Operation.SET_HEAD, 9, 2, *HEAD) == OK
    names = ("THETA", "MODE", "KAPPA", "MIN_ACTIVE", "MIN_MASS", "ALPHA", "SINK")
    assert machine.table == {
        machine.map.address(f"HEAD_TABLE.{name}", 2, 1): word for name, word in zip(names, HEAD[1:], strict=True)
    }


@pytest.mark.parametrize(
    ("layer", "place", "word", "status", "detail"),
    [
        (3, 0, 1, Status.BAD_LAYER, 0),
        (0, 0, 4, Status.BAD_HEAD, 1),
        (0, 1, 1 << (UNIT.sizes.score_bits - 1), Status.BAD_VALUE, 2),
        (0, 2, 3, Status.BAD_VALUE, 3),
        (0, 3, 1 << 18, Status.BAD_VALUE, 4),
        (0, 4, 128, Status.BAD_VALUE, 5),
        (0, 6, 0x7FFF, Status.BAD_VALUE, 7),
        (0, 6, 1 << 24, Status.BAD_VALUE, 7),
        (0, 7, 1 << 24, Status.BAD_VALUE, 8),
    ],
)
def test_wrong_head_settings_change_nothing(machine, layer, place, word, status, detail):
    words = list(HEAD)
    words[place] = word
    assert machine.ask(Operation.SET_HEAD, 0, layer, *words) == (status, detail)
    assert machine.table == {}


def test_the_outermost_thresholds_fit(machine):
    half = 1 << (UNIT.sizes.score_bits - 1)
    for theta in (half - 1, 2**32 - half):
        assert machine.ask(Operation.SET_HEAD, 0, 0, 0, theta, *HEAD[2:]) == OK
    assert machine.ask(Operation.SET_HEAD, 0, 0, 0, 2**32 - half - 1, *HEAD[2:]) == (Status.BAD_VALUE, 2)


def test_gains_reach_the_table(machine):
    gains = [0, 1, 0x7FFF, 0xFFFF, 2**32 - 1, 2**32 - 0x8000]
    assert machine.ask(Operation.SET_GAIN, 0, 1, 3 | 26 << 8, *gains) == OK
    assert machine.table == {machine.map.address("GAIN", 1, 3, 26 + i): gain & 0xFFFF for i, gain in enumerate(gains)}
    machine.table.clear()
    assert machine.ask(Operation.SET_GAIN, 0, 3, 0, 0) == (Status.BAD_LAYER, 0)
    assert machine.ask(Operation.SET_GAIN, 0, 1, 4, 0) == (Status.BAD_HEAD, 1)
    assert machine.ask(Operation.SET_GAIN, 0, 1, 3 | 27 << 8, *gains) == (Status.BAD_VALUE, 1)
    assert machine.ask(Operation.SET_GAIN, 0, 1, 3 | 32 << 8, 0) == (Status.BAD_VALUE, 1)
    assert machine.ask(Operation.SET_GAIN, 0, 1, 3, 0, 0x10000) == (Status.BAD_VALUE, 3)
    assert machine.table == {}


def test_layer_settings_reach_the_jobs(machine):
    machine.ask(Operation.OPEN, 0, 0, *opening(layers=2))
    assert machine.ask(Operation.SET_LAYER, 7, 1, 0b0101, 1 | 8, 16) == OK
    machine.step(0, 0)
    machine.step(0, 1)
    plain, changed = machine.jobs
    assert (plain.mask, plain.head_dim, plain.control["normaliser"], plain.control["emit_context"]) == (0, 32, 0, 0)
    assert (changed.mask, changed.head_dim, changed.control["normaliser"]) == (0b0101, 16, 1)
    assert (changed.control["emit_context"], changed.control["profile"]) == (1, 1)
    for words, detail in (((16, 0, 16), 1), ((0, 16, 16), 2), ((0, 5, 16), 2), ((0, 0, 0), 3), ((0, 0, 20), 3)):
        assert machine.ask(Operation.SET_LAYER, 0, 1, *words) == (Status.BAD_VALUE, detail)
    assert machine.ask(Operation.SET_LAYER, 0, 1, 0, 0, 40) == (Status.BAD_VALUE, 3)
    assert machine.ask(Operation.SET_LAYER, 0, 3, 0, 0, 16) == (Status.BAD_LAYER, 0)


def test_what_was_not_built_is_refused():
    unit = UNIT.with_settings(softmax=False, normalisers=("length",))
    machine = Machine(SystemConfig(unit=unit))
    assert machine.ask(Operation.SET_HEAD, 0, 0, *HEAD) == (Status.UNSUPPORTED, 3)
    assert machine.ask(Operation.SET_GAIN, 0, 0, 0, 0) == (Status.UNSUPPORTED, 0)
    assert machine.ask(Operation.SET_LAYER, 0, 0, 0, 1, 32) == (Status.UNSUPPORTED, 2)
    assert machine.ask(Operation.SET_LAYER, 0, 0, 0, 3, 32) == OK


def test_timeout_is_set(machine):
    assert machine.ask(Operation.SET_TIMEOUT, 0, 0, 31) == OK
    assert machine.patience == 31
    assert machine.ask(Operation.SET_TIMEOUT, 0, 0, 32) == (Status.BAD_VALUE, 1)
    assert machine.patience == 31


def test_counters_are_told_and_cleared(machine):
    for clear in (0, 1):
        status, detail, *words = machine.ask(Operation.COUNTERS, 0, 0, clear)
        assert (status, detail) == OK
        assert len(words) == 2 * len(machine.map.counters) + 4
        expected = [machine.map.address(f"{name}.{half}") for name in machine.map.counters for half in ("LO", "HI")]
        assert words[:-4] == expected
        assert ("COUNTERS_CLEAR" in machine.words) == bool(clear)
    assert machine.ask(Operation.COUNTERS, 0, 0, 2) == (Status.BAD_VALUE, 1)


def test_slots_and_state_are_told(machine):
    machine.ask(Operation.OPEN, 0, 0, *opening(budget=20))
    machine.ask(Operation.OPEN, 1, 0, *opening(layers=2, budget=20))
    machine.step(1, 1, count=22)
    assert machine.ask(Operation.STATE, 1, 1) == (*OK, 20, 22, 40, 0, 0)
    assert machine.ask(Operation.STATE, 1, 0) == (*OK, 0, 0, 20, 0, 0)
    _, _, *words = machine.ask(Operation.SLOTS, 1, 1, 1, 0, 15)
    pairs = list(zip(machine.mass[1][40:55], machine.position[1][40:55], strict=True))
    assert words == [word for pair in pairs for word in pair]
    assert pairs[:3] == [(2, 20), (1, 21), (20, 2)]
    assert machine.ask(Operation.SLOTS, 1, 1, 0, 19, 1)[:2] == OK
    for words, status, detail in (
        ((2, 0, 1), Status.BAD_HEAD, 1),
        ((0, 20, 1), Status.BAD_VALUE, 2),
        ((0, 19, 2), Status.BAD_VALUE, 3),
        ((0, 0, 0), Status.BAD_VALUE, 3),
        ((0, 0, SLOTS_LIMIT + 1), Status.BAD_VALUE, 3),
    ):
        assert machine.ask(Operation.SLOTS, 1, 1, *words) == (status, detail)
    assert machine.ask(Operation.SLOTS, 1, 2, 0, 0, 1) == (Status.BAD_LAYER, 0)
    assert machine.ask(Operation.STATE, 1, 2) == (Status.BAD_LAYER, 0)
    assert machine.ask(Operation.STATE, 2, 0) == (Status.CLOSED, 0)


def test_reset_forgets_rows(machine):
    machine.ask(Operation.OPEN, 0, 0, *opening(Policy.BUZZ, stride=1))
    first = _steps(machine, 30)
    assert machine.ask(Operation.RESET, 0) == OK
    assert machine.ask(Operation.STATE, 0) == (*OK, 0, 0, 0, 0, 0)
    assert _steps(machine, 30) == first
    assert machine.ask(Operation.RESET, 1) == (Status.CLOSED, 0)


def _steps(machine, count):
    """What the unit was asked for."""
    before = len(machine.jobs)
    assert machine.step(count=count)[:2] == OK
    victims = [(job.sinks, job.recent) if job.control["evict"] else None for job in machine.jobs[before:]]
    return [(job.n, job.position, victim) for job, victim in zip(machine.jobs[before:], victims, strict=True)]


def test_a_step_is_checked(machine):
    machine.ask(Operation.OPEN, 1, 0, *opening())
    nothing = (0,) * 5
    for sequence, layer, words, status, detail in (
        (3, 0, (2, 0, 0), Status.BAD_SEQUENCE, 0),
        (0, 0, (2, 0, 0), Status.CLOSED, 0),
        (1, 1, (2, 0, 0), Status.BAD_LAYER, 0),
        (1, 0, (2, 0, 2), Status.BAD_VALUE, 3),
        (1, 0, (2, 0), Status.BAD_LENGTH, 0),
        (1, 0, (2, 0, 0, 0), Status.BAD_LENGTH, 0),
        (1, 0, (STEP_LIMIT, 0, 2), Status.BAD_VALUE, 3),
        (1, 0, (0, 0, 0), Status.BAD_VALUE, 1),
        (1, 0, (STEP_LIMIT + 1, 0, 0), Status.BAD_VALUE, 1),
        (1, 0, (), Status.BAD_LENGTH, 0),
    ):
        count = words[0] if words and words[0] <= STEP_LIMIT else 0
        dropped = machine.dropped
        answer = machine.ask(Operation.STEP, sequence, layer, *words, packets=["good"] * count)
        assert answer == (status, detail, *nothing)
        assert machine.dropped == dropped + count
    assert machine.jobs == []
    assert machine.restarts == 0
