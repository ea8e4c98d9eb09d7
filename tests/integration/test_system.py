"""The whole system through the host link: policies, gating, several sequences, against the integer model."""

import shutil

import numpy as np
import pytest

from reluctant.golden.gating import GatingSettings
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.sim.clocks import Clocks

from . import systems
from .systems import CONFIG, KV_HEADS, check_answer, check_run, open_system, rows, twin

POLICIES = {
    "refuse": PolicySettings.create(Policy.REFUSE, 30),
    "streaming": PolicySettings.create(Policy.STREAMING, 8, sinks=2),
    "h2o": PolicySettings.create(Policy.H2O, 10, recent=3),
    "normalised": PolicySettings.create(Policy.H2O, 9, sinks=1, recent=2, normalised=True),
    "buzz": PolicySettings.create(Policy.BUZZ, 12, sinks=1, recent=3, stride=1),
    "nacl": PolicySettings.create(Policy.NACL, 9, sinks=1, recent=2, stride=2, share=128, seed=0xDEADBEEF),
    "dms": PolicySettings.create(Policy.DMS, 11, recent=3),
    "dms_full": PolicySettings.create(Policy.DMS, 4, sinks=1, recent=2),
}
TOKENS = 44


def submit(sequence, layer, arrays, token, flags=None):
    flag = flags is not None and bool(flags[token])
    return sequence.submit_step(layer, *(array[:, token] for array in arrays), flag=flag)


def check_slots(sequence, layer, run):
    """What the unit itself says of positions, at the end."""
    for kv_head in range(KV_HEADS):
        kept = run.kept[-1, kv_head].tolist()
        assert sequence.slots(layer, kv_head).position.tolist() == [position for position in kept if position >= 0]


@pytest.mark.parametrize("stall_seed", [None, 1], ids=["", "stalls"])
@pytest.mark.parametrize("name", POLICIES)
def test_policy_keeps_what_the_model_keeps(name, stall_seed):
    policy = POLICIES[name]
    tokens = min(TOKENS, policy.budget) if policy.policy is Policy.REFUSE else TOKENS
    arrays = [rows(seed, tokens) for seed in (1, 2)]
    flags = np.random.default_rng(3).random(tokens) < 0.5
    with open_system(stall_seed=stall_seed) as system:
        sequence = system.open_sequence(1, policy, 2)
        tickets = [
            [submit(sequence, layer, arrays[layer], token, flags) for layer in range(2)] for token in range(tokens)
        ]
        for layer in range(2):
            run = twin(arrays[layer], policy, layer, flags=flags)
            check_run([system.wait(pair[layer]) for pair in tickets], run)
            check_slots(sequence, layer, run)
        assert system.errors() == ()


@pytest.mark.parametrize(
    "gating",
    [GatingSettings(active=6, probe=4), GatingSettings(mass=60_000, probe=2), GatingSettings(active=8, mass=9000)],
    ids=str,
)
def test_heads_are_turned_off_as_the_model_says(gating):
    policy, arrays = POLICIES["h2o"], rows(4, TOKENS)
    with open_system(layers=1) as system:
        sequence = system.open_sequence(0, policy, 1, gating)
        tickets = [submit(sequence, 0, arrays, token) for token in range(TOKENS)]
        run = twin(arrays, policy, gating=gating)
        check_run([system.wait(ticket) for ticket in tickets], run)
        assert 0 < run.off.sum() < run.off.numel()


def test_sequences_share_the_unit():
    """Three sequences with policies of their own, in a random order; one is closed and its slots are used again."""
    policies = [POLICIES[name] for name in ("streaming", "h2o", "buzz")]
    arrays = [rows(10 + number, TOKENS) for number in range(4)]
    order = np.random.default_rng(5).permutation(np.repeat([0, 1, 2], 20)).tolist()
    with open_system(layers=1) as system:
        sequences = [system.open_sequence(number, policy, 1) for number, policy in enumerate(policies)]
        assert [sequence.first_slot for sequence in sequences] == [0, 8, 18]
        done, tickets = [0, 0, 0], [[], [], []]
        for number in order:
            tickets[number].append(submit(sequences[number], 0, arrays[number], done[number]))
            done[number] += 1
        for number, policy in enumerate(policies):
            check_run([system.wait(ticket) for ticket in tickets[number]], twin(arrays[number], policy))
        sequences[1].close()
        info = system.info()
        assert (info.open, info.slots_free, info.longest_run) == ((0, 2), 44, 34)
        again = system.open_sequence(3, POLICIES["normalised"], 1)
        assert again.first_slot == 8
        results = [system.wait(submit(again, 0, arrays[3], token)) for token in range(TOKENS)]
        check_run(results, twin(arrays[3], POLICIES["normalised"]))
        more = [submit(sequences[2], 0, arrays[2], token) for token in range(20, TOKENS)]
        run = twin(arrays[2], policies[2])
        for token, ticket in enumerate(more, 20):
            check_answer(system.wait(ticket).heads, run, token)


def test_prefill_then_steps():
    """Many tokens in one command, then single ones; a layer that only appends them attends to the same rows after."""
    policy, arrays = POLICIES["streaming"], rows(6, 40)
    k, v, q = (array[:, :35] for array in arrays)
    run = twin(arrays, policy)
    with open_system() as system:
        sequence = system.open_sequence(0, policy, 2)
        result = sequence.prefill(0, k, v, q)
        assert len(result.answers) == 35
        for token, answer in enumerate(result.answers):
            check_answer(answer, run, token)
        assert (result.n, result.position, result.slots.tolist()) == (8, 34, run.slots[34].tolist())
        assert sequence.prefill(1, k, v).answers == ()
        for layer in range(2):
            for token in range(35, 40):
                check_answer(system.wait(submit(sequence, layer, arrays, token)).heads, run, token)
            check_slots(sequence, layer, run)


def test_flagged_prefill():
    policy, arrays = POLICIES["dms"], rows(7, 40)
    flags = np.arange(40) % 3 != 1
    with open_system(layers=1) as system:
        sequence = system.open_sequence(0, policy, 1)
        answers = sequence.prefill(0, *arrays, flags=flags).answers
        run = twin(arrays, policy, flags=flags)
        for token, answer in enumerate(answers):
            check_answer(answer, run, token)
        check_slots(sequence, 0, run)


def test_reset_forgets_rows_and_nothing_else():
    policy, arrays = POLICIES["nacl"], rows(8, 20)
    run = twin(arrays, policy)
    with open_system(layers=1) as system:
        sequence = system.open_sequence(0, policy, 1)
        for _ in range(2):
            check_run([system.wait(submit(sequence, 0, arrays, token)) for token in range(20)], run)
            state = sequence.state(0)
            assert (state.rows, state.position, state.damaged) == (9, 20, False)
            sequence.reset()
        assert sequence.state(0).rows == 0


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_no_unknown_gets_out():
    """Icarus sees X: in what the core fetches, in registers, on the buses. It never started with defined memories."""
    arrays, policy = rows(12, 10), POLICIES["streaming"]
    with open_system(layers=1, simulator="icarus", stall_seed=4) as system:
        sequence = system.open_sequence(0, policy, 1, GatingSettings(active=6, probe=3))
        tickets = [submit(sequence, 0, arrays, token) for token in range(10)]
        run = twin(arrays, policy, gating=GatingSettings(active=6, probe=3))
        check_run([system.wait(ticket) for ticket in tickets], run)
        check_slots(sequence, 0, run)
        assert all(value >= 0 for value in system.counters().values())


def test_same_calls_take_the_same_cycles():
    def cycles():
        with open_system(layers=1, stall_seed=9) as system:
            sequence, arrays = system.open_sequence(0, POLICIES["h2o"], 1), rows(9, 12)
            for token in range(12):
                system.wait(submit(sequence, 0, arrays, token))
            return system.transport.cycle, system.cycles(), system.counters()

    assert cycles() == cycles()


def test_counters_tell_work_and_time():
    arrays = rows(11, 12)
    with open_system(layers=1) as system:
        sequence = system.open_sequence(0, POLICIES["streaming"], 1)
        before = system.counters(clear=True)
        start = system.cycles()
        tickets = [submit(sequence, 0, arrays, token) for token in range(12)]
        for ticket in tickets:
            system.wait(ticket)
        end, counters = system.cycles(), system.counters()
    run = twin(arrays, POLICIES["streaming"])
    assert counters["JOBS"] == 12
    assert counters["KEY_ROWS"] == CONFIG.unit.heads * int(run.attention.rows.sum())
    assert counters["VALUE_ROWS"] == int(run.attention.value_rows.sum())
    assert counters["minstret"] > before["minstret"]
    assert counters["mcycle"] > before["mcycle"]
    delta = {name: end[name] - start[name] for name in start}
    assert delta["PACKETS_DROPPED"] == 0
    assert 0 < delta["EXPOSED_CYCLES"] <= delta["ACTIVE_CYCLES"] <= delta["CYCLES"]
    clocks = systems.usual_clocks or Clocks()
    busy = counters["BUSY_CYCLES"] * clocks.unit_half / clocks.half
    assert abs(delta["UNIT_CYCLES"] - busy) <= 12
