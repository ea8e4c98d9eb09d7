"""Anything that a host may do, in any order and at any speed: what must hold of the answers, and of the jobs."""

import random
from collections import defaultdict

import pytest

from reluctant.golden.policies import Policy
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.messages import STEP_LIMIT, Operation, Status
from reluctant.hdl.system_config import SystemConfig

from .firmware_model import GOOD, HOST, LONG, SHORT, TRAP, WATCHDOG, Machine
from .test_firmware_commands import opening

UNIT = UnitConfig(lanes=8, head_dim=32, slots=48, heads=4, kv_heads=2, profiles=2)
CONFIG = SystemConfig(unit=UNIT, sequences=3)
LOST = (Status.FAULT, Status.ABORTED, Status.DAMAGED)


class Host:
    """Sends commands, some of them nonsense, and keeps account of what belongs to them."""

    def __init__(self, seed: int, bad_packets: bool = True):
        self.random = random.Random(seed)
        self.bad_packets = bad_packets
        weights = random.Random(seed + 1)
        self.machine = Machine(
            CONFIG,
            scores=lambda job, head: (self.random.randint(0, 8), self.random.randint(0, 900)),
            weights=lambda job, kv_head, slot: weights.randint(0, 255),
        )
        self.sent: list[tuple[int, int]] = []
        self.answered: list[tuple[int, ...]] = []
        self.to_send = 0
        self.restarted = False
        """The latest reply may come again."""

    def one_command(self) -> None:
        pick, sequence, layer = self.random.random(), self.random.randint(0, 3), self.random.randint(0, 2)
        if pick < 0.6:
            self._step(sequence, layer)
        elif pick < 0.75:
            self._send(Operation.OPEN, sequence, 0, *self._settings())
        elif pick < 0.9:
            words = [self.random.choice([0, 1, 2, 255, 2**31, 2**32 - 1]) for _ in range(self.random.randint(0, 12))]
            operation = self.random.choice([*set(Operation) - {Operation.STEP}, 12, 255])
            self._send(operation, sequence, layer, *words)
        else:
            self._send(self.random.choice([Operation.RESET, Operation.CLOSE, Operation.STATE]), sequence, layer)

    def _settings(self) -> tuple[int, ...]:
        policy, budget = self.random.choice(list(Policy)), self.random.randint(1, 12)
        recent = 0 if policy <= Policy.STREAMING else self.random.randint(0, budget - 1)
        more = {"stride": 4, "share": 128, "seed": self.random.getrandbits(32)} if policy is Policy.NACL else {}
        more |= {"stride": 1} if policy is Policy.BUZZ else {}
        gates = {"gate_active": self.random.choice([0, 0, 3]), "probe": 3}
        return opening(policy, self.random.randint(1, 2), budget, recent=recent, **more, **gates)

    def _step(self, sequence: int, layer: int) -> None:
        count = self.random.choice([1, 1, 1, 2, 5, 9, 0, STEP_LIMIT + 1])
        self.to_send += count if count <= STEP_LIMIT else 0
        self._send(Operation.STEP, sequence, layer, count, self.random.getrandbits(9), self.random.random() < 0.3)

    def _send(self, operation: int, *words: int) -> None:
        tag = len(self.sent) & 255
        self.machine.send(operation, *words, tag=tag)
        self.sent.append((operation, tag))

    def some_packets(self) -> None:
        count = self.random.randint(0, self.to_send)
        self.to_send -= count
        for _ in range(count):
            bad = self.bad_packets and self.random.random() < 0.05
            self.machine.packets.append(self.random.choice([SHORT, LONG]) if bad else GOOD)

    def take_replies(self) -> None:
        while self.machine.replies and self.random.random() < 0.7:
            head, *words = self.machine.replies.popleft()
            name = head & 255, head >> 24
            if self.restarted and name == self.sent[len(self.answered) - 1]:
                self.restarted = False
                continue
            assert name == self.sent[len(self.answered)], "replies come in the order of the commands"
            self.answered.append((head >> 8 & 255, head >> 16 & 255, *words))

    def play(self, rounds: int) -> None:
        for _ in range(rounds):
            if len(self.machine.commands) < CONFIG.messages and self.random.random() < 0.4:
                self.one_command()
            if self.random.random() < 0.4:
                self.some_packets()
            self.machine.go(self.random.randint(1, 300))
            if self.random.random() < 0.3:
                self.machine.take_packet()
            if self.random.random() < 0.3:
                self.machine.end_job()
            self.take_replies()

    def finish(self) -> None:
        self.machine.packets.extend([GOOD] * self.to_send)
        self.to_send = 0
        while len(self.answered) < len(self.sent):
            before = len(self.answered)
            self.machine.run()
            for _ in range(20):
                self.take_replies()
            assert len(self.answered) > before, "a command is not answered"
        self.machine.run()
        while self.machine.replies:
            self.take_replies()


@pytest.mark.parametrize("seed", range(12))
def test_every_command_is_answered_and_every_packet_used(seed):
    host = Host(seed)
    host.play(3000)
    host.finish()
    assert host.machine.restarts == 0, "the firmware never does what traps"
    assert not host.machine.packets
    assert not host.machine.verdicts
    steps = [
        answer for (operation, _), answer in zip(host.sent, host.answered, strict=True) if operation == Operation.STEP
    ]
    ran = sum(job.packet == GOOD for job in host.machine.jobs)
    assert sum(answer[4] for answer in steps) == ran
    assert ran > 50
    assert {Status.OK, Status.CLOSED, Status.BAD_PACKET} <= {answer[0] for answer in steps}


@pytest.mark.parametrize("seed", range(6))
def test_regions_are_disjoint_and_positions_rise(seed):
    """Without bad packets no job is undone: in each region, positions are those of a text."""
    host = Host(100 + seed, bad_packets=False)
    host.play(3000)
    host.finish()
    assert not any(job.no_victim for job in host.machine.jobs)
    last = defaultdict(lambda: -1)
    for job in host.machine.jobs:
        key = (job.base, job.control["profile"])
        assert job.position in (0, last[key] + 1)
        last[key] = job.position
        assert job.base + job.n <= UNIT.slots
        if job.position:
            assert job.control["evict"] or job.slot == job.n - 1


@pytest.mark.parametrize("cause", [HOST, WATCHDOG, TRAP])
@pytest.mark.parametrize("seed", range(4))
def test_restarts_at_any_time(seed, cause):
    """Wherever the core is: every command is answered once, but that the latest reply may come twice."""
    host = Host(200 + seed, bad_packets=False)
    machine = host.machine
    for restart in range(40):
        host.play(40)
        while cause != HOST and machine.dropping:
            machine.go(5)  # Nothing can trap or hang between a drop and its being counted.
        host.restarted = True
        machine.start(cause)
        if cause == HOST:
            # Packets of steps that were begun are neither sent nor awaited any more; those of the others still are.
            kicks = machine.kicks
            while machine.kicks == kicks:
                machine.go(5)
            machine.packets.clear()
            counts = [words[1] for words in machine.commands if words[0] & 255 == Operation.STEP]
            host.to_send = sum(count for count in counts if count <= STEP_LIMIT)
        host.finish()
        assert not machine.packets
        assert not machine.verdicts
        assert machine.ask(Operation.INFO)[-1] == restart + 1
    assert machine.restarts == 0
    assert sum(answer[0] in LOST for answer in host.answered) > 10
