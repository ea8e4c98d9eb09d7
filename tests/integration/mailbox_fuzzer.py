"""A host that sends anything: commands right and wrong, packets early, late and broken, accesses of every kind."""

import random
from collections import deque
from dataclasses import dataclass

import numpy as np

from reluctant.boards.results import decode_answer
from reluctant.golden.policies import Policy
from reluctant.hdl.messages import SLOTS_LIMIT, STEP_LIMIT, Operation, Status

from .mailbox_model import Model
from .raw_mailbox import RawMailbox, word_0
from .systems import CONFIG, HEAD_DIM, HEADS, KV_HEADS

__all__ = ["Fuzzer"]

LIMIT = 60_000
"""Cycles in which the system must go on."""
ODD = (0, 1, 2, 3, 7, 8, 15, 16, 17, 64, 65, 255, 256, 1024, 1025, 0x8000, 0xFFFF, 0x1_0000, 1 << 31, (1 << 32) - 1)
OPERATIONS = {
    Operation.STEP: 60,
    Operation.OPEN: 10,
    Operation.CLOSE: 3,
    Operation.RESET: 3,
    Operation.STATE: 6,
    Operation.SLOTS: 6,
    Operation.INFO: 4,
    Operation.SET_HEAD: 4,
    Operation.SET_GAIN: 3,
    Operation.SET_LAYER: 4,
    Operation.SET_TIMEOUT: 2,
    Operation.COUNTERS: 2,
}


@dataclass
class Token:
    """A packet: its rows, or none that mean anything; ``bad``: its length is wrong for the step."""

    arrays: tuple | None
    flag: bool
    bad: bool
    payload: bytes


@dataclass
class Sent:
    """A command under way."""

    number: int
    words: list[int]
    tokens: list[Token]


class Fuzzer:
    """Drives one system; :meth:`play` then :meth:`finish`. Fails with AssertionError.

    Attributes
    ----------
    seen
        How often each (operation, status) came.
    """

    def __init__(self, transport, model: Model, seed: int):
        self.random, self.rows = random.Random(seed), np.random.default_rng(seed)
        self.transport, self.model = transport, model
        self.mailbox = RawMailbox(transport, CONFIG)
        self.pending: deque[Sent] = deque()
        self.backlog: deque[bytes] = deque()
        self.errors: set[str] = set()
        self.seen: dict[tuple[int, Status], int] = {}
        self.sent = 0

    # What the host does -----------------------------------------------------------------------------------------------

    def play(self, commands: int) -> None:
        end = self.sent + commands
        actions = {self.one_command: 50, self.some_packets: 25, self.some_replies: 18, self.odd_access: 5, self.fill: 1}
        while self.sent < end:
            self.random.choices(list(actions), list(actions.values()))[0]()

    def finish(self) -> None:
        """Until every command is answered; then everything that is open is looked at."""
        self._settle_all()
        for sequence, known in list(self.model.open.items()):
            for layer, twin in enumerate(known.regions):
                self._ask(Operation.STATE, sequence, layer)
                for kv_head in range(KV_HEADS):
                    for first in range(0, twin.region.n, SLOTS_LIMIT):
                        count = min(SLOTS_LIMIT, twin.region.n - first)
                        self._ask(Operation.SLOTS, sequence, layer, kv_head, first, count)
        self._ask(Operation.INFO)
        self.check_errors()
        assert self.mailbox.status() | {"sleeping": 1} == self.mailbox.registers.decode("STATUS", 0) | {
            "room": CONFIG.messages,
            "sleeping": 1,
        }

    def _ask(self, operation, sequence=0, layer=0, *words) -> None:
        self._send([word_0(operation, sequence, layer, self.random.randrange(256)), *words])
        self._settle_all()

    def one_command(self) -> None:
        if self.mailbox.status()["room"]:
            self._send(self.command())
        else:
            self._release(len(self.backlog))
            self.some_replies()

    def some_packets(self) -> None:
        self._release(self.random.randint(0, len(self.backlog)))
        self.transport.delay(self.random.choice([0, 10, 300, 2000]))

    def some_replies(self) -> None:
        for _ in range(self.random.randint(0, CONFIG.messages)):
            if (reply := self.mailbox.take()) is None:
                return
            self._settle(reply)

    def fill(self) -> None:
        """No reply is taken until nothing moves any more; then nothing more can be sent."""
        self._release(len(self.backlog))
        end = self.transport.cycle + LIMIT
        full = {"room": 0, "replies": CONFIG.messages, "sleeping": 1}  # awake it may take the command that it answered
        while not full.items() <= (status := self.mailbox.status()).items():
            if status["room"]:
                self._send(self.command())
                self._release(len(self.backlog))
            else:
                self.transport.delay(200)
            assert self.transport.cycle < end, status
        for name, *indices in (("SEND",), ("COMMAND", self.random.randrange(32))):
            assert self.mailbox.refused(self.mailbox.address(name, *indices), 1)
        self.errors.add("bad_send")
        self.transport.delay(2000)
        status = self.mailbox.status()
        assert (status["room"], status["replies"]) == (0, CONFIG.messages)

    def odd_access(self) -> None:
        """An access that the map does not know, or one without effect."""
        registers, reads = self.mailbox.registers, self.random.random() < 0.5
        name = self.random.choice([*registers.registers, "SEND", "MEMORY_DATA", "MEMORY_ADDRESS", "unmapped"])
        word = None if reads else self.random.getrandbits(32)
        if name == "unmapped":
            known = {item.address + 4 * i for item in registers.registers.values() for i in range(item.count)}
            address = self.random.choice([a for a in range(0, 1 << registers.address_width, 4) if a not in known])
        else:
            register = registers.register(name)
            address = register.address + 4 * self.random.randrange(register.count)
        error = self._error_of(name, reads)
        if error is None and not reads:
            word = self._harmless(name, word)
        if name == "SEND" and not reads:
            word, error = self.random.choice([0, 33, 63, 64, 1 << 31]), "bad_send"
        if word is None and not reads:
            return
        assert self.mailbox.refused(address, word) == (error is not None), (name, word)
        if error:
            self.errors.add(error)
        if name == "MEMORY_ADDRESS" and not reads:
            assert self.transport.read(address) == word & (CONFIG.memory - 4)
        if self.random.random() < 0.5:
            self.check_errors()

    def _error_of(self, name: str, reads: bool) -> str | None:
        if name == "unmapped":
            return "bad_address"
        register = self.mailbox.registers.register(name)
        if not (register.readable if reads else register.writable):
            return "bad_address"
        return "not_held" if name == "MEMORY_DATA" else None

    def _harmless(self, name: str, word: int) -> int | None:
        """A word for a register that may be written; None: leave it alone."""
        if name in ("CONTROL", "TAKE"):
            return None
        if name == "COMMAND":
            return word if self.mailbox.status()["room"] else None
        return {"IRQ_ENABLE": self.random.randrange(4), "ERROR": 0}.get(name, word)

    def check_errors(self) -> None:
        """ERROR has what was provoked, and nothing of a restart."""
        registers, address = self.mailbox.registers, self.mailbox.address("ERROR")
        word = self.transport.read(address)
        assert {name for name, bit in registers.decode("ERROR", word).items() if bit} == self.errors
        enabled = self.transport.read(self.mailbox.address("IRQ_ENABLE"))
        status = registers.decode("IRQ_STATUS", self.transport.read(self.mailbox.address("IRQ_STATUS")))
        assert status["error"] == bool(self.errors)
        assert self.transport.poll() or not enabled & (status["error"] << 1 | status["reply"])
        self.transport.write(address, word)
        self.errors = set()

    # Commands ---------------------------------------------------------------------------------------------------------

    def command(self) -> list[int]:
        """Words of a command: right as far as is known, often with something changed."""
        pick = self.random
        operation = pick.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]
        sequence, layer = pick.randrange(CONFIG.sequences), pick.randrange(CONFIG.layers)
        if self.model.open and pick.random() < 0.9 and operation is not Operation.OPEN:
            sequence = pick.choice(list(self.model.open))
            known = self.model.open[sequence]
            layer = pick.randrange(known.count)
            if known.damaged is not False and pick.random() < 0.5:
                operation = Operation.STATE if known.damaged is None else Operation.RESET
        words = getattr(self, f"_{operation.name.lower()}", lambda: [])()
        if pick.random() < 0.2:
            operation, sequence, layer, words = self._spoil(operation, sequence, layer, words)
        return [word_0(operation, sequence, layer, pick.randrange(256)), *words]

    def _spoil(self, operation, sequence, layer, words):
        pick = self.random
        words = list(words)
        match pick.randrange(6):
            case 0:
                operation = pick.randrange(len(Operation), 256)
            case 1:
                sequence = pick.choice([CONFIG.sequences, 16, 255])
            case 2:
                layer = pick.choice([CONFIG.layers, 16, 255])
            case 3:
                length = pick.randrange(32)
                words = [*words, *pick.choices(ODD, k=31)][:length]
            case _ if words:
                words[pick.randrange(len(words))] = pick.choice([*ODD, pick.getrandbits(32)])
        if operation == Operation.SET_LAYER and len(words) == 3 and words[2] == CONFIG.unit.lanes:
            words[2] = 12  # A valid change of head_dim would leave rows of another length behind.
        if operation == Operation.SET_TIMEOUT and len(words) == 1 and 0 < words[0] < 20:
            words[0] = 32  # No packet is given up here.
        if operation == Operation.STEP and words and 40 < words[0] <= STEP_LIMIT:
            words[0] = pick.choice([40, STEP_LIMIT + 1])
        return operation, sequence, layer, words

    def _open(self):
        pick = self.random
        policy, layers, budget = pick.choice(list(Policy)), pick.randint(1, CONFIG.layers), pick.randint(1, 9)
        sinks = 0 if policy is Policy.REFUSE else pick.randrange(budget)
        recent = 0 if policy in (Policy.REFUSE, Policy.STREAMING) else pick.randrange(budget - sinks)
        stride = {Policy.BUZZ: pick.randint(1, 5), Policy.NACL: pick.choice([1, 2, 4])}.get(policy, 0)
        nacl = policy is Policy.NACL
        gates = pick.choice([(0, 0, 0), (0, 0, 16), (4, 0, 3), (0, 50_000, 2)])
        kind = policy | layers << 8 | (policy is Policy.H2O and pick.random() < 0.5) << 16
        return [kind, budget, sinks, recent, stride, nacl * pick.randint(0, 256), nacl * pick.getrandbits(32), *gates]

    def _step(self):
        return [self.random.choice([1, 1, 1, 1, 1, 2, 3, 6, 9]), self.random.getrandbits(9), self.random.random() < 0.2]

    def _slots(self):
        return [self.random.randrange(KV_HEADS), self.random.randrange(9), self.random.randint(1, 5)]

    def _set_head(self):
        pick = self.random
        theta, alpha = pick.randint(-3000, 3000) & 0xFFFF_FFFF, pick.randrange(0x8000, 0x1_0000)
        return [pick.randrange(HEADS), theta, pick.randrange(3), pick.getrandbits(18), pick.randrange(5), 9, alpha, 0]

    def _set_gain(self):
        first = self.random.randrange(HEAD_DIM)
        gains = [self.random.getrandbits(16) for _ in range(self.random.randint(1, HEAD_DIM - first))]
        return [self.random.randrange(HEADS) | first << 8, *gains]

    def _set_layer(self):
        return [self.random.choice([0, 0, 1, 6, 15]), self.random.choice([0, 1, 8, 9]), HEAD_DIM]

    def _set_timeout(self):
        return [self.random.choice([0, 20, 31])]

    def _counters(self):
        return [self.random.randrange(2)]

    # Sending ----------------------------------------------------------------------------------------------------------

    def _send(self, words: list[int]) -> None:
        words = [int(word) for word in words]
        attend = len(words) < 4 or not words[3]
        tokens = [
            self._token(attend, len(words) > 2 and bool(words[2] >> token & 1))
            for token in range(self.model.packets(words))
        ]
        self.mailbox.send(words)
        self.pending.append(Sent(self.sent, words, tokens))
        self.sent += 1
        self.backlog += [token.payload for token in tokens]

    def _token(self, attend: bool, flag: bool) -> Token:
        arrays = [self.rows.integers(-128, 128, (heads, HEAD_DIM), np.int8) for heads in (KV_HEADS, KV_HEADS, HEADS)]
        payload = b"".join(array.tobytes() for array in arrays[: 3 if attend else 2])
        if self.random.random() > 0.03:
            return Token(tuple(arrays), flag, False, payload)
        beats = self.random.choice([1, len(payload) // 8 - 1, len(payload) // 8 + 1, self.random.randint(1, 40)])
        bad = 8 * beats != len(payload)
        return Token(tuple(arrays), flag, bad, payload[: 8 * beats].ljust(8 * beats, b"\x55"))

    def _release(self, packets: int) -> None:
        for _ in range(packets):
            self.transport.send(self.backlog.popleft())

    def _settle_all(self) -> None:
        self._release(len(self.backlog))
        self.transport.write(self.mailbox.address("IRQ_ENABLE"), 1)
        while self.pending:
            self._settle(self.mailbox.wait_reply(LIMIT))
        assert self.mailbox.take() is None

    # Replies ----------------------------------------------------------------------------------------------------------

    def _settle(self, reply: list[int]) -> None:
        head, *body = reply
        sent = self.pending.popleft()
        assert head & 0xFF00_00FF == sent.words[0] & 0xFF00_00FF, (sent, reply)
        operation, status, detail = head & 0xFF, Status(head >> 8 & 0xFF), head >> 16 & 0xFF
        self.seen[operation, status] = self.seen.get((operation, status), 0) + 1
        wrong = self.model.judge(sent.words)
        where = f"command {sent.number} {[hex(word) for word in sent.words]}: {status!r}, word {detail}, not {wrong}"
        if operation == Operation.STEP:
            assert len(body) == 4 + -(-KV_HEADS // 2), where
        if wrong:
            assert (status, detail) in wrong, where
            assert not any(body), where
        elif operation == Operation.STEP:
            assert detail == 0, where
            self._settle_step(sent, status, body, where)
        else:
            assert (status, detail) == (Status.OK, 0), where
            self.model.do(sent.words, body)

    def _settle_step(self, sent: Sent, status: Status, body: list[int], where: str) -> None:
        sequence, layer = sent.words[0] >> 8 & 0xFF, sent.words[0] >> 16 & 0xFF
        known, attend = self.model.open[sequence], not sent.words[3]
        done = body[2]
        if known.damaged:
            assert status is Status.DAMAGED or sent.number < known.doubtful_since, where
        if status is Status.DAMAGED:
            assert known.damaged is not False, where
            known.damaged = True
            self._take_answers(layer, [None] * done * attend, where)
            return
        steps, expected = self._predict(sent, known.regions[layer], attend, status, done, known)
        assert status is expected, f"{where}; {expected!r} was expected"
        if status is Status.BAD_PACKET:
            assert len(steps) <= done <= len(steps) + 3, where
            self._doubt(sent, known)
        else:
            assert done == len(steps), where
        if done == len(steps):
            assert self._placement(steps, status) == body, (where, body)
        results = [step["result"] for step in steps] + [None] * (done - len(steps))
        self._take_answers(layer, results if attend else [], where)

    def _predict(self, sent, twin, attend, status, done, known):
        """Steps that must have been done, and the status."""
        steps = []
        # Refused while a bad packet of the region was in flight: its row was counted.
        early = known.damaged is not False and sent.number < known.doubtful_since and status is Status.FULL
        early &= twin.policy.policy is Policy.REFUSE
        for token in sent.tokens:
            if twin.full() or (early and len(steps) == done):
                return steps, Status.FULL
            if token.bad:
                return steps, Status.BAD_PACKET
            steps.append(twin.step(token.arrays, token.flag, attend))
        return steps, Status.OK

    def _doubt(self, sent: Sent, known) -> None:
        """What was planned behind a bad packet, in the same region, is damaged if it was in flight."""
        first_bad = next(index for index, token in enumerate(sent.tokens) if token.bad)
        place = sent.words[0] & 0xFF_FF00
        behind = any(
            item.words[0] & 0xFF == Operation.STEP and item.words[0] & 0xFF_FF00 == place for item in self.pending
        )
        if known.damaged is False and (behind or first_bad + 1 < len(sent.tokens)):
            known.damaged = None
        known.doubtful_since = self.sent

    @staticmethod
    def _placement(steps, status) -> list[int]:
        slots = [0] * KV_HEADS
        if not steps:
            return [0, 0, 0, 0, 0]
        if status is Status.OK:
            slots = steps[-1]["slots"]
        pairs = [slots[i] | slots[i + 1] << 16 for i in range(0, KV_HEADS, 2)]
        return [steps[-1]["rows"], steps[-1]["position"], len(steps), steps[-1]["off"], *pairs]

    def _take_answers(self, layer: int, results: list, where: str) -> None:
        """As many result packets, against the model where it knows."""
        settings, emits = self.model.layers[layer], self.model.emits[layer]
        contents = {"contexts": emits or settings.normaliser == 0, "outputs": settings.normaliser != 0}
        for result in results:
            packet = self.transport.receive(LIMIT)
            if result is None:
                continue
            answer = decode_answer(CONFIG.unit, packet, HEAD_DIM, **contents)
            for name, value in vars(answer).items():
                if value is not None:
                    assert np.array_equal(value, getattr(result, name)[:, 0].numpy()), f"{where}: {name}"
