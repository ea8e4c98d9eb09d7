"""The host link against a stand-in for the system: commands, replies, results, errors."""

import numpy as np
import pytest
import torch

from reluctant.boards import errors
from reluctant.boards.host import System
from reluctant.boards.settings import HeadSettings
from reluctant.golden.eviction import run_policy
from reluctant.golden.formats import Mode, Normaliser
from reluctant.golden.gating import GatingSettings
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.settings import LayerSettings
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.messages import Operation, Status
from reluctant.hdl.system_config import SystemConfig

from .system_model import ModelSystem

UNIT = UnitConfig(lanes=16, head_dim=32, heads=4, kv_heads=2, slots=64, profiles=2)
CONFIG = SystemConfig(unit=UNIT)
H, G, D, T = 4, 2, 32, 12
STREAMING = PolicySettings.create(Policy.STREAMING, 8, sinks=2)
SETTINGS = LayerSettings.create(H, D, kv_heads=G, theta=[0, 100, -50, 0], mask=[False, True, False, False])


def rows(seed=1, tokens=T):
    random = np.random.default_rng(seed)
    return tuple(random.integers(-128, 128, (heads, tokens, D), dtype=np.int8) for heads in (G, G, H))


@pytest.fixture(name="model")
def _model():
    return ModelSystem(CONFIG)


@pytest.fixture(name="system")
def _system(model):
    system = System(model, CONFIG)
    for layer in range(2):
        system.configure_layer(layer, SETTINGS, emit_context=True)
    return system


def token(arrays, index):
    return [array[:, index] for array in arrays]


def same(answer, attention, index):
    for name in ("masked", "null", "softmax", "fallback", "exponent", "active", "mass", "weight_sum"):
        assert (getattr(answer, name) == getattr(attention, name)[:, index].numpy()).all(), name
    for name in ("context", "output"):
        if getattr(answer, name) is not None:
            assert (getattr(answer, name) == getattr(attention, name)[:, index].numpy()).all(), name
    return True


def test_steps_of_two_layers_ahead_of_their_results(model, system):
    sequence = system.open_sequence(1, STREAMING, 2, GatingSettings(active=3, probe=2))
    arrays = [rows(1), rows(2)]
    tickets = [[sequence.submit_step(layer, *token(arrays[layer], index)) for layer in range(2)] for index in range(T)]
    for layer in range(2):
        k, v, q = map(torch.from_numpy, arrays[layer])
        gating = GatingSettings(active=3, probe=2)
        run = run_policy(SETTINGS, STREAMING, q, k, v, layer=layer, gating=gating)
        for index in range(T):
            result = system.wait(tickets[index][layer])
            assert same(result.heads, run.attention, index)
            assert (result.n, result.position) == (min(index + 1, 8), index)
            assert result.slots.tolist() == run.slots[index].tolist()
            assert result.off.tolist() == run.off[index].tolist()
    assert sequence.state(1).rows == 8
    slots = sequence.slots(1, 0)
    assert sorted(slots.position.tolist()) == [0, 1, *range(6, 12)]
    assert (slots.mass == 10 * slots.position).all()
    sequence.close()
    with pytest.raises(errors.ClosedError, match="STEP of sequence 1, layer 0: the sequence is not open"):
        sequence.step(0, *token(arrays[0], 0))


def test_commands_carry_every_setting(model, system):
    policy = PolicySettings.create(Policy.NACL, 9, sinks=1, recent=3, stride=8, share=99, seed=0x8000_0001)
    system.open_sequence(2, policy, 1, GatingSettings(active=4, mass=5, probe=6))
    assert model.commands[-1][0] & 0xFFFFFF == Operation.OPEN | 2 << 8
    assert model.commands[-1][1:] == [4 | 1 << 8, 9, 1, 3, 8, 99, 0x8000_0001, 4, 5, 6]
    settings = HeadSettings(
        theta=-2, mode=Mode.HYBRID, kappa=(7, 1), min_active=3, min_mass=9, alpha=(40000, -1), sink=77
    )
    system.set_head(1, 3, settings)
    words = model.commands[-1]
    assert words[0] & 0xFFFFFF == Operation.SET_HEAD | 1 << 16
    assert words[1:] == [3, 0xFFFF_FFFE, 2, 7 | 1 << 16, 3, 9, 40000 | 0xFF << 16, 77]
    system.set_gain(0, 1, range(-20, 12))
    first, second = model.commands[-2:]
    assert (first[1], len(first), second[1], len(second)) == (1, 32, 1 | 30 << 8, 4)
    assert [*first[2:], *second[2:]] == [value & 0xFFFF for value in range(-20, 12)]
    system.set_layer(1, mask=5, normaliser=Normaliser.SUM, emit_context=True, head_dim=16)
    assert model.commands[-1][1:] == [5, 4 | 8, 16]
    system.set_timeout(12)
    assert model.commands[-1][1:] == [12]
    system.reset(2)
    assert model.commands[-1][0] & 0xFFFFFF == Operation.RESET | 2 << 8


def test_prefill_appends_or_attends(model, system):
    k, v, q = rows(3, 20)
    refuse = PolicySettings.create(Policy.REFUSE, 20)
    sequence = system.open_sequence(0, refuse, 2)
    result = sequence.prefill(0, k, v, q)
    run = run_policy(SETTINGS, refuse, *map(torch.from_numpy, (q, k, v)))
    assert all(same(answer, run.attention, index) for index, answer in enumerate(result.answers))
    assert (len(result.answers), result.n, result.position) == (20, 20, 19)
    result = sequence.prefill(1, k, v)
    assert (result.answers, result.n, result.slots.tolist()) == ((), 20, [19, 19])
    assert model.commands[-1][1:] == [20, 0, 1]
    with pytest.raises(errors.FullError, match="sequence 0, layer 0: the region is full") as error:
        sequence.step(0, *token((k, v, q), 0))
    assert error.value.answers == ()


def test_flags_of_prefill_go_in_words(model, system):
    k, v, q = rows(4, 40)
    policy = PolicySettings.create(Policy.DMS, 20, recent=4)
    sequence = system.open_sequence(0, policy, 1)
    flags = np.arange(40) % 3 == 0
    result = sequence.prefill(0, k, v, q, flags=flags)
    run = run_policy(SETTINGS, policy, *map(torch.from_numpy, (q, k, v)), flags=torch.from_numpy(flags))
    assert all(same(answer, run.attention, index) for index, answer in enumerate(result.answers))
    assert [command[1:3] for command in model.commands[-2:]] == [[32, 0x49249249], [8, 0x92]]


def test_error_in_a_prefill_keeps_what_was_done_before(system):
    k, v, q = rows(5, 12)
    sequence = system.open_sequence(0, PolicySettings.create(Policy.REFUSE, 9), 1)
    with pytest.raises(errors.FullError) as error:
        sequence.prefill(0, k, v, q)
    assert len(error.value.answers) == 9
    assert sequence.state(0).rows == 9


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_status_has_an_error(model, system, status):
    sequence = system.open_sequence(0, STREAMING, 1)
    arrays = rows()
    before = sequence.submit_step(0, *token(arrays, 0))
    model.faults[len(model.commands) + 1] = status
    refused = sequence.submit_step(0, *token(arrays, 1))
    after = sequence.submit_step(0, *token(arrays, 2))
    assert system.wait(after).position == 1
    with pytest.raises(errors.CommandError, match="STEP of sequence 0, layer 0: ") as error:
        system.wait(refused)
    assert error.value.status is status
    assert (error.value.operation, error.value.sequence, error.value.layer) == (Operation.STEP, 0, 0)
    assert type(error.value) is not errors.CommandError
    assert system.wait(before).position == 0
    with pytest.raises(type(error.value)):
        system.wait(refused)


def test_detail_names_the_word(system):
    with pytest.raises(errors.BadValueError, match=r"SET_TIMEOUT: .* \(bits is 0x63\)"):
        system.set_timeout(99)
    with pytest.raises(errors.NoSpaceError, match=r"OPEN of sequence 0: .* \(budget is 0x28\)"):
        system.open_sequence(0, PolicySettings.create(Policy.STREAMING, 40))
    with pytest.raises(errors.BadHeadError, match=r"SET_HEAD of layer 0: .* \(head is 0x4\)"):
        system.set_head(0, 4, HeadSettings())


def test_lost_and_missing_replies(model, system):
    sequence = system.open_sequence(0, STREAMING, 1)
    arrays = rows()
    model.faults[len(model.commands)] = None
    lost = sequence.submit_step(0, *token(arrays, 0))
    with pytest.raises(errors.NoReplyError, match="STEP: the scheduler does not reply"):
        system.wait(lost)
    with pytest.raises(errors.HostError, match="STEP is not over"):
        _ = lost.result
    assert system.info().open == (0,)
    with pytest.raises(errors.LostError, match="STEP: the scheduler restarted and forgot it"):
        system.wait(lost)


def test_reply_that_comes_twice_is_taken_once(model, system):
    """A restart of the core can do that; a reply to nothing is an error all the same."""
    system.info()
    tag = model.commands[-1][0] >> 24
    model._replies.append([Operation.INFO | Status.FAULT << 8 | tag << 24])
    assert system.info().open == ()
    model._replies.append([Operation.INFO | (tag + 9) << 24])
    with pytest.raises(errors.HostError, match="belongs to no command"):
        system.info()


def test_stray_results_after_a_fault_are_dropped(model, system):
    sequence = system.open_sequence(0, STREAMING, 1)
    arrays = rows()
    model.faults[len(model.commands)] = Status.FAULT
    model._outputs.append(b"stray")
    with pytest.raises(errors.FaultError):
        sequence.step(0, *token(arrays, 0))
    assert sequence.step(0, *token(arrays, 1)).position == 0


def test_malformed_result_is_an_error_of_its_step(model, system):
    def damage(packet, number):
        if number == 0:
            packet[3] = 1
        elif number == 1:
            packet.append(0)

    model.damage = damage
    sequence = system.open_sequence(0, STREAMING, 1)
    tickets = [sequence.submit_step(0, *token(rows(), index)) for index in range(3)]
    assert system.wait(tickets[2]).position == 2
    for ticket, message in zip(
        tickets, ("the headers of a step's answer are malformed", "705 bytes, not 704"), strict=False
    ):
        with pytest.raises(errors.HostError, match=f"STEP of sequence 0, layer 0: .*{message}"):
            system.wait(ticket)


def test_arrays_and_layers_are_checked_before_anything_is_sent(model):
    system = System(model, CONFIG)
    sequence = system.open_sequence(0, STREAMING, 1)
    k, v, q = token(rows(), 0)
    with pytest.raises(ValueError, match="layer 0 was not set up"):
        sequence.submit_step(0, k, v, q)
    system.set_layer(0)
    sent = len(model.commands)
    for bad in ((k[:1], v, q), (k, v, q.astype(np.int16)), (k, v[:, :16], q)):
        with pytest.raises(ValueError, match=r"int8 \(\d, 1, 32\) is needed"):
            sequence.submit_step(0, *bad)
    assert len(model.commands) == sent


def test_another_build_is_told(model):
    with pytest.raises(errors.WrongSystemError, match="CONFIG_HASH is 0x"):
        System(model, SystemConfig(unit=UNIT, messages=8))


def test_counters_by_name(model, system):
    sequence = system.open_sequence(0, STREAMING, 1)
    for index in range(3):
        sequence.step(0, *token(rows(), index))
    counters = system.counters(clear=True)
    assert (counters["JOBS"], counters["KEY_ROWS"], counters["mcycle"], counters["minstret"]) == (3, 18, 60, 15)
    assert system.counters()["JOBS"] == 0
    assert system.cycles()["CYCLES"] == model.cycle
    assert set(system.cycles()) >= {"ACTIVE_CYCLES", "EXPOSED_CYCLES", "UNIT_CYCLES", "PACKETS_DROPPED"}
    assert system.errors() == ()


def test_firmware_and_restarts(model, system):
    system.load_firmware(bytes(range(1, 11)))
    assert model.memory == {0: 0x04030201, 4: 0x08070605, 8: 0x0A09}
    assert model.control == [{"hold", "cold"}, {"cold"}, set()]
    with pytest.raises(ValueError, match="layer 0 was not set up"):
        system.step(0, 0, *token(rows(), 0))
    with pytest.raises(ValueError, match=f"has {CONFIG.memory + 1} bytes: the memory has {CONFIG.memory}"):
        system.load_firmware(bytes(CONFIG.memory + 1))
    system.configure_layer(0, SETTINGS)
    sequence = system.open_sequence(0, STREAMING, 1)
    ticket = sequence.submit_step(0, *token(rows(), 0))
    system.restart()
    assert model.control[3:] == [{"restart"}, set()]
    assert system.wait(ticket).position == 0
    model.faults[len(model.commands)] = None
    ticket = sequence.submit_step(0, *token(rows(), 1))
    system.restart(cold=True)
    assert model.control[5:] == [{"restart", "cold"}, set()]
    with pytest.raises(errors.LostError):
        system.wait(ticket)
    with system:
        assert system.info().open == ()
    assert model.closed
