"""Hosts, cores and packets that stop half way: what is untouched goes on, bit by bit, and the rest is told."""

import struct

import numpy as np
import pytest

from reluctant.boards import errors
from reluctant.boards.host import System
from reluctant.boards.transport import NoPacketError
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.hdl.messages import Operation, Status

from .raw_mailbox import RawMailbox, word_0
from .systems import CONFIG, SETTINGS, check_answer, firmware, open_system, rows, twin

POLICIES = [PolicySettings.create(Policy.H2O, 7, recent=2), PolicySettings.create(Policy.STREAMING, 6, sinks=1)]
ARRAYS = [rows(seed, 30) for seed in (1, 2)]
RUNS = [twin(arrays, policy) for arrays, policy in zip(ARRAYS, POLICIES, strict=True)]
ILLEGAL, SPIN = 0x0000_0000, 0x0000_006F
CSRR_MCYCLEH = 0xB800_2073


class Scene:
    """A system with two sequences, each a few tokens old; the first is going to suffer, the second must not."""

    def __init__(self, **options):
        self.system = open_system(layers=1, **options)
        self.transport, self.mailbox = self.system.transport, RawMailbox(self.system.transport, CONFIG)
        self.open()

    def open(self):
        self.sequences = [self.system.open_sequence(number, policy, 1) for number, policy in enumerate(POLICIES)]
        self.done = [0, 0]
        for _ in range(9):
            self.steps(0, 1)
            self.steps(1, 1)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.system.__exit__(*exception)

    def token(self, number: int, index: int | None = None):
        index = self.done[number] if index is None else index
        return [array[:, index] for array in ARRAYS[number]]

    def packet(self, number: int, index: int | None = None) -> bytes:
        return b"".join(array.tobytes() for array in self.token(number, index))

    def steps(self, number: int, count: int) -> None:
        """The next tokens of a sequence, each as the model says."""
        for _ in range(count):
            result = self.sequences[number].step(0, *self.token(number))
            index = self.done[number]
            check_answer(result.heads, RUNS[number], index)
            assert (result.position, result.slots.tolist()) == (index, RUNS[number].slots[index].tolist())
            self.done[number] += 1

    def submit(self, number: int, packets=None):
        """A STEP of the next token, with packets of its own or none at all."""
        send = self.system._commands.send
        return send(Operation.STEP, number, 0, (1, 0, 0), packets=[] if packets is None else packets)

    def others_go_on(self) -> None:
        """The second sequence knows nothing of it, and neither does its store."""
        state = self.sequences[1].state(0)
        assert (state.position, state.damaged) == (self.done[1], False)
        for kv_head in range(2):
            kept = RUNS[1].kept[self.done[1] - 1, kv_head].tolist()
            assert self.sequences[1].slots(0, kv_head).position.tolist() == [p for p in kept if p >= 0]
        self.steps(1, 4)

    def first_goes_on(self) -> None:
        assert self.sequences[0].state(0).damaged is False
        self.steps(0, 4)

    def first_starts_again(self) -> None:
        """It is damaged, says so, and is well after a reset."""
        with pytest.raises(errors.DamagedError):
            self.sequences[0].step(0, *self.token(0))
        self.sequences[0].reset()
        self.done[0] = 0
        self.steps(0, 10)

    def poke(self, address: int, *words: int) -> None:
        """Write into the core's memory while it is held; it starts warm then."""
        box = self.mailbox
        box.control(hold=1)
        box.transport.write(box.address("MEMORY_ADDRESS"), address)
        for word in words:
            box.transport.write(box.address("MEMORY_DATA"), word)
        box.control()


@pytest.fixture(params=[None, 3], ids=["", "stalls"])
def scene(request):
    with Scene(stall_seed=request.param) as scene:
        yield scene


# Packets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beats", [0, 1, 7])
def test_host_stops_in_mid_packet_with_a_timeout(beats):
    with Scene() as scene:
        scene.system.set_timeout(9)
        late = scene.submit(0)
        packet = scene.packet(0)
        if beats:
            scene.transport.send_part(packet[: 8 * beats])
        with pytest.raises(errors.StepTimeoutError):
            scene.system.wait(late)
        scene.system.set_timeout(0)
        scene.transport.send(packet[8 * beats :])  # the rest, or all of it, is swallowed
        scene.first_goes_on()
        scene.others_go_on()


@pytest.mark.parametrize("beats", [1, 15])
def test_host_stops_in_mid_packet_and_flushes(scene, beats):
    late = scene.submit(0)
    scene.transport.send_part(scene.packet(0)[: 8 * beats])
    scene.transport.delay(2000)
    assert scene.mailbox.status()["packet"] == 1
    scene.system.flush()
    with pytest.raises(errors.BadPacketError):
        scene.system.wait(late)
    assert scene.mailbox.status()["packet"] == 0
    scene.first_goes_on()
    scene.others_go_on()


def test_flush_without_a_packet_changes_nothing(scene):
    scene.system.flush()
    ticket = scene.sequences[0].submit_step(0, *scene.token(0))
    scene.system.wait(ticket)
    scene.done[0] += 1
    scene.system.flush()
    scene.first_goes_on()
    scene.others_go_on()


# Results and replies --------------------------------------------------------------------------------------------------


def test_host_stops_reading_results(scene):
    """The unit stands still with an answer half out, and nothing is lost."""
    tickets = [(number, scene.sequences[number].submit_step(0, *scene.token(number))) for number in (0, 1)]
    scene.transport.hold_results(True)
    more = [(0, scene.sequences[0].submit_step(0, *scene.token(0, scene.done[0] + 1)))]
    scene.transport.delay(20_000)
    assert scene.mailbox.status()["busy"] == 1
    scene.transport.hold_results(False)
    for number, ticket in tickets + more:
        check_answer(scene.system.wait(ticket).heads, RUNS[number], scene.done[number])
        scene.done[number] += 1
    scene.first_goes_on()
    scene.others_go_on()
    assert scene.system.errors() == ()


def test_host_stops_taking_replies(scene):
    """Both rings fill up, and the commands behind are done in their turn once replies are taken."""
    box, sent = scene.mailbox, 0
    end = scene.transport.cycle + 100_000
    full = {"room": 0, "replies": CONFIG.messages, "sleeping": 1}
    while not full.items() <= (status := box.status()).items():
        if status["room"]:
            box.send([word_0(Operation.STATE, 1, 0, 100 + sent)])
            sent += 1
        scene.transport.delay(200)
        assert scene.transport.cycle < end
    assert box.refused(box.address("SEND"), 1)
    scene.transport.delay(30_000)
    tags = [box.wait_reply(10_000)[0] for _ in range(sent)]
    assert tags == [word_0(Operation.STATE, tag=100 + index) for index in range(sent)]
    assert scene.system.errors(clear=True) == ("bad_send",)
    scene.first_goes_on()
    scene.others_go_on()


def test_host_stops_in_mid_command(scene):
    """Words that were written and never sent are words of nothing."""
    scene.mailbox.write_words([word_0(Operation.CLOSE, 1), *[0xFFFF_FFFF] * 31])
    scene.transport.delay(3000)
    assert scene.mailbox.status()["room"] == CONFIG.messages
    scene.first_goes_on()
    scene.others_go_on()


# The core -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [ILLEGAL, SPIN], ids=["trap", "hang"])
def test_broken_firmware_is_replaced_warm(word):
    """Its first instruction traps or hangs, again and again; with the right word back, all sequences are there."""
    name = "trap" if word == ILLEGAL else "watchdog"
    with Scene() as scene:
        good = struct.unpack_from("<I", firmware())[0]
        scene.poke(0, word)
        scene.transport.delay(3 * CONFIG.watchdog)
        if word == SPIN:
            assert name in scene.system.errors(clear=True)
        scene.poke(0, good)
        info = scene.system.info()
        assert info.open == (0, 1)
        scene.first_goes_on()
        scene.others_go_on()


@pytest.mark.parametrize("word", [ILLEGAL, SPIN], ids=["trap", "hang"])
def test_firmware_that_breaks_at_a_command(scene, word):
    """COUNTERS reads the core's counters and nothing else does: there the program is broken."""
    words = struct.unpack(f"<{len(firmware()) // 4}I", firmware())
    at = next(index for index, item in enumerate(words) if item & 0xFFFF_F07F == CSRR_MCYCLEH)
    scene.poke(4 * at, word)
    scene.system.info()
    before = [scene.sequences[number].submit_step(0, *scene.token(number)) for number in (0, 1)]
    broken = scene.system._commands.send(Operation.COUNTERS, 0, 0, (0,))
    behind = [scene.sequences[number].submit_step(0, *scene.token(number, scene.done[number] + 1)) for number in (0, 1)]
    for tickets in (before, behind):
        for number, ticket in enumerate(tickets):
            check_answer(scene.system.wait(ticket).heads, RUNS[number], scene.done[number])
            scene.done[number] += 1
    with pytest.raises(errors.FaultError):
        scene.system.wait(broken)
    assert scene.system.errors(clear=True) == ("trap" if word == ILLEGAL else "watchdog",)
    scene.first_goes_on()
    scene.others_go_on()


def test_reset_in_mid_beat(scene):
    """Nothing is left of it, whatever was on the buses."""
    scene.submit(0)
    scene.transport.send_part(scene.packet(0)[:40])
    scene.sequences[1].submit_step(0, *scene.token(1))
    scene.transport.delay(150)
    scene.transport.reset()
    with pytest.raises(NoPacketError):
        scene.transport.receive(2000)
    status = scene.mailbox.status()
    assert (status["room"], status["replies"], status["packet"], status["cause"]) == (CONFIG.messages, 0, 0, 0)
    scene.system = System(scene.transport, scene.system.config)
    scene.system.configure_layer(0, SETTINGS, emit_context=True)
    assert scene.system.info().open == ()
    scene.open()
    scene.first_goes_on()
    scene.others_go_on()


# Restarts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 40, 300, 450, 520, 700, 1500])
@pytest.mark.parametrize("stall_seed", [None, 5], ids=["", "stalls"])
def test_warm_restart_with_steps_under_way(delay, stall_seed):
    """In flight, half read, half answered, in the mailbox, their packets queued: each is done or aborted."""
    with Scene(stall_seed=stall_seed) as scene:
        tickets = [scene.sequences[0].submit_step(0, *scene.token(0, scene.done[0] + index)) for index in range(6)]
        scene.transport.delay(delay)
        scene.system.restart(now=True)
        outcomes = []
        for ticket in tickets:
            try:
                check_answer(scene.system.wait(ticket).heads, RUNS[0], scene.done[0])
                scene.done[0] += 1
                outcomes.append(Status.OK)
            except errors.CommandError as error:
                outcomes.append(error.status)
        aborted = outcomes.count(Status.ABORTED)
        assert outcomes == [Status.OK] * (6 - aborted) + [Status.ABORTED] * aborted
        assert aborted > 0
        scene.others_go_on()
        scene.first_starts_again()
        scene.others_go_on()
        assert scene.system.info().restarts == 1


@pytest.mark.parametrize("delay", [0, 300, 700])
def test_cold_restart_with_steps_under_way(scene, delay):
    arrays = [array[:, :20] for array in ARRAYS[0]]
    packets = [scene.packet(1, index) for index in range(20, 28)]
    scene.system._commands.send(Operation.STEP, 1, 0, (len(packets), 0, 0), packets=packets)
    ticket = scene.sequences[0].submit_step(0, *scene.token(0))
    scene.transport.delay(delay)
    scene.system.restart(cold=True, now=True)
    with pytest.raises((errors.LostError, errors.ClosedError)):
        scene.system.wait(ticket)
    assert scene.system.info().open == ()
    assert scene.transport.unsent() == 0
    scene.system.configure_layer(0, SETTINGS, emit_context=True)
    scene.open()
    sequence = scene.system.open_sequence(2, POLICIES[0], 1)
    answers = sequence.prefill(0, *arrays).answers
    for index, answer in enumerate(answers):
        check_answer(answer, RUNS[0], index)


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
def test_restart_after_packets_got_lost(cold):
    """Steps whose packets never come, in flight and in the mailbox, more than the gate can decide ahead."""
    with Scene() as scene:
        scene.submit(0)
        scene.system._commands.send(Operation.STEP, 0, 0, (30, 0, 0), packets=[scene.packet(0)])
        scene.submit(0)
        scene.transport.delay(1000)
        scene.system.restart(cold=cold, now=True)
        if cold:
            scene.system.configure_layer(0, SETTINGS, emit_context=True)
            scene.open()
            scene.first_goes_on()
        else:
            scene.first_starts_again()
        scene.others_go_on()


def test_another_host_takes_over():
    """One dies with commands, packets, replies and results all half way; the next restarts the core cold."""
    with Scene() as scene:
        scene.transport.hold_results(True)
        while scene.mailbox.status()["room"]:
            scene.submit(0, [scene.packet(0)])
            scene.submit(1)
        scene.transport.send_part(bytes(24))
        scene.transport.delay(5000)
        scene.mailbox.write_words([1, 2, 3])
        scene.transport.hold_results(False)
        scene.system = System(scene.transport, scene.system.config)
        scene.system.flush()
        scene.system.restart(cold=True, now=True)
        assert scene.system.info().open == ()
        scene.system.configure_layer(0, SETTINGS, emit_context=True)
        scene.open()
        scene.first_goes_on()
        scene.others_go_on()


def test_restart_while_the_host_does_not_read():
    """The beat that is offered stays, and the answer that was cut is ended."""
    with Scene() as scene:
        scene.transport.hold_results(True)
        tickets = [scene.sequences[0].submit_step(0, *scene.token(0, scene.done[0] + index)) for index in range(3)]
        scene.transport.delay(4000)
        scene.mailbox.control(restart=1)
        scene.transport.delay(4000)
        scene.transport.hold_results(False)
        cut = scene.transport.receive(2000)
        assert 0 < len(cut) < 4 * 96
        with pytest.raises(NoPacketError):
            scene.transport.receive(2000)
        for ticket in tickets:
            with pytest.raises(errors.AbortedError):
                scene.system.wait(ticket)
        scene.first_starts_again()
        scene.others_go_on()


def test_new_firmware_is_loaded():
    with Scene() as scene:
        scene.sequences[0].submit_step(0, *scene.token(0))
        scene.system.load_firmware(firmware())
        scene.system.configure_layer(0, SETTINGS, emit_context=True)
        scene.open()
        scene.first_goes_on()
        scene.others_go_on()
        assert np.array_equal(scene.system.info().open, (0, 1))
