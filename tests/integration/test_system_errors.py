"""What goes wrong between host and system is told by a typed error, and costs nothing else."""

import numpy as np
import pytest

from reluctant.boards import errors
from reluctant.boards.settings import HeadSettings
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.hdl.messages import Operation

from .systems import CONFIG, SETTINGS, check_answer, check_run, firmware, open_system, rows, twin

REFUSE = PolicySettings.create(Policy.REFUSE, 4)
STREAMING = PolicySettings.create(Policy.STREAMING, 6, sinks=1)
ARRAYS = rows(1, 20)
PACKET_BYTES = 2 * 16 * 2 + 4 * 16


def token(index, arrays=ARRAYS):
    return [array[:, index] for array in arrays]


def raw_step(system, packet, sequence=0, layer=0, count=1):
    """A STEP with a packet of the test's own; None: without one."""
    packets = [] if packet is None else [packet]
    return system._commands.send(Operation.STEP, sequence, layer, (count, 0, 1), packets=packets)


def test_every_refusal_has_its_error():
    with open_system(layers=3) as system:
        sequence = system.open_sequence(0, STREAMING, 2)
        wrong = [
            (errors.ClosedError, lambda: system.step(1, 0, *token(0))),
            (errors.BadSequenceError, lambda: system.step(CONFIG.sequences, 0, *token(0))),
            (errors.BadLayerError, lambda: sequence.step(2, *token(0))),
            (errors.AlreadyOpenError, lambda: system.open_sequence(0, STREAMING, 1)),
            (errors.NoSpaceError, lambda: system.open_sequence(1, PolicySettings.create(Policy.REFUSE, 60), 1)),
            (errors.BadValueError, lambda: system.open_sequence(1, STREAMING, 4)),
            (errors.BadValueError, lambda: system.set_timeout(40)),
            (errors.BadLayerError, lambda: system.set_layer(3)),
            (errors.BadHeadError, lambda: system.set_head(0, 4, HeadSettings())),
            (errors.BadHeadError, lambda: sequence.slots(0, 2)),
            (errors.BadValueError, lambda: system.set_layer(2, head_dim=12)),
            (errors.UnsupportedError, lambda: system.set_layer(2, normaliser=4)),
            (errors.BadPolicyError, lambda: system._do(Operation.OPEN, 1, 0, (99, 8, *[0] * 7, 1))),
            (errors.BadLengthError, lambda: system._do(Operation.OPEN, 1, 0, (0,))),
            (errors.BadValueError, lambda: system.wait(raw_step(system, None, count=0))),
        ]
        sequence.step(0, *token(0))
        for kind, call in wrong:
            with pytest.raises(kind) as error:
                call()
            assert str(error.value).split(" ")[0].rstrip(":") in Operation.__members__
        run = twin(ARRAYS, STREAMING)
        for index in range(1, 20):
            check_answer(sequence.step(0, *token(index)).heads, run, index)


def test_full_region_refuses_and_keeps_its_rows():
    """Refused steps have no result; those around them, of another layer and sequence, are not lost."""
    with open_system() as system:
        full, other = system.open_sequence(0, REFUSE, 1), system.open_sequence(1, STREAMING, 2)
        tickets, others = [], []
        for index in range(9):
            tickets.append(full.submit_step(0, *token(index)))
            others.append(other.submit_step(1, *token(index)))
        check_run([system.wait(ticket) for ticket in others], twin(ARRAYS, STREAMING, 1))
        run = twin(ARRAYS, REFUSE)
        for index in range(4):
            check_answer(system.wait(tickets[index]).heads, run, index)
        for ticket in tickets[4:]:
            with pytest.raises(errors.FullError, match="STEP of sequence 0, layer 0: the region is full"):
                system.wait(ticket)
        assert full.state(0).rows == 4
        assert system.cycles()["PACKETS_DROPPED"] == 5


def test_prefill_into_a_full_region_tells_how_far_it_came():
    with open_system() as system:
        sequence = system.open_sequence(0, REFUSE, 1)
        with pytest.raises(errors.FullError) as error:
            sequence.prefill(0, *ARRAYS)
        run = twin(ARRAYS, REFUSE)
        assert len(error.value.answers) == 4
        for index, answer in enumerate(error.value.answers):
            check_answer(answer, run, index)
        other = system.open_sequence(1, STREAMING, 1)
        check_answer(other.step(0, *token(0)).heads, twin(ARRAYS, STREAMING), 0)


@pytest.mark.parametrize("size", [8, PACKET_BYTES // 2 - 8, PACKET_BYTES], ids=["short", "a beat less", "long"])
@pytest.mark.parametrize("stall_seed", [None, 2], ids=["", "stalls"])
def test_bad_packet_is_one_step_that_did_not_happen(size, stall_seed):
    with open_system(layers=1, stall_seed=stall_seed) as system:
        sequence = system.open_sequence(0, STREAMING, 1)
        run = twin(ARRAYS, STREAMING)
        for index in range(10):
            check_answer(sequence.step(0, *token(index)).heads, run, index)
            with pytest.raises(errors.BadPacketError, match="too short or too long"):
                system.wait(raw_step(system, bytes(size)))
            assert sequence.state(0).position == index + 1


def test_steps_built_on_a_bad_packet_are_damaged_until_reset():
    """What was started behind it in the same region does not count; another sequence goes on."""
    with open_system(layers=1) as system:
        sequence, other = system.open_sequence(0, STREAMING, 1), system.open_sequence(1, STREAMING, 1)
        run = twin(ARRAYS, STREAMING)
        check_answer(sequence.step(0, *token(0)).heads, run, 0)
        bad = raw_step(system, bytes(8))
        behind = [sequence.submit_step(0, *token(index)) for index in (1, 2)]
        others = [other.submit_step(0, *token(index)) for index in range(4)]
        for index, ticket in enumerate(others):
            check_answer(system.wait(ticket).heads, run, index)
        with pytest.raises(errors.BadPacketError):
            system.wait(bad)
        outcomes = set()
        for ticket in behind:
            try:
                system.wait(ticket)
                outcomes.add("done")
            except errors.DamagedError:
                outcomes.add("damaged")
        if "damaged" in outcomes:
            with pytest.raises(errors.DamagedError):
                sequence.step(0, *token(3))
        sequence.reset()
        check_run([sequence.step(0, *token(index)) for index in range(12)], run)
        check_answer(other.step(0, *token(4)).heads, run, 4)


def test_packet_that_never_comes_is_given_up():
    with open_system(layers=1) as system:
        sequence = system.open_sequence(0, STREAMING, 1)
        run = twin(ARRAYS, STREAMING)
        check_answer(sequence.step(0, *token(0)).heads, run, 0)
        system.set_timeout(9)
        with pytest.raises(errors.StepTimeoutError, match="did not come in time"):
            system.wait(raw_step(system, None))
        # What the host still sends of it is swallowed.
        system.transport.send(bytes(PACKET_BYTES))
        for index in range(1, 8):
            check_answer(sequence.step(0, *token(index)).heads, run, index)


def test_warm_restart_keeps_sequences_and_cold_forgets_them():
    with open_system(layers=1) as system:
        sequence = system.open_sequence(2, STREAMING, 1)
        run = twin(ARRAYS, STREAMING)
        tickets = [sequence.submit_step(0, *token(index)) for index in range(5)]
        system.restart()
        for index, ticket in enumerate(tickets):
            check_answer(system.wait(ticket).heads, run, index)
        assert system.info().restarts == 1
        for index in range(5, 10):
            check_answer(sequence.step(0, *token(index)).heads, run, index)
        system.restart(cold=True)
        assert (system.info().open, system.info().restarts) == ((), 0)


def test_dead_firmware_is_noticed_and_replaced():
    """A core that does nothing never replies; loading the firmware again brings the system back."""
    spin = np.array([0x0000006F], "<u4").tobytes()
    with open_system(layers=1) as system:
        with pytest.raises(errors.NoReplyError, match="the scheduler does not reply"):
            system.load_firmware(spin)
        assert "watchdog" in system.errors(clear=True)
        system.load_firmware(firmware())
        assert system.info().open == ()
        system.configure_layer(0, SETTINGS, emit_context=True)
        sequence = system.open_sequence(0, STREAMING, 1)
        run = twin(ARRAYS, STREAMING)
        for index in range(8):
            check_answer(sequence.step(0, *token(index)).heads, run, index)


def test_restart_in_the_middle_of_steps_ends_them():
    """The host loses patience: what is under way ends with an error, and after a reset all is well."""
    with open_system(layers=1) as system:
        sequence = system.open_sequence(0, STREAMING, 1)
        sequence.step(0, *token(0))
        late = raw_step(system, None)
        system._commands.patience = 3000
        system.restart()
        with pytest.raises(errors.AbortedError):
            system.wait(late)
        with pytest.raises(errors.DamagedError):
            sequence.step(0, *token(1))
        sequence.reset()
        run = twin(ARRAYS, STREAMING)
        check_run([sequence.step(0, *token(index)) for index in range(8)], run)
