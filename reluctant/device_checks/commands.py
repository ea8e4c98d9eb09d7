"""The scheduler's commands: what is refused, and that the device goes on; several sequences; restarts."""

from collections.abc import Callable, Iterator, Sequence

import torch

from reluctant.boards import errors
from reluctant.boards.settings import HeadSettings
from reluctant.boards.transport import Access
from reluctant.compare import compare, expected, observed
from reluctant.golden.eviction import run_policy
from reluctant.golden.formats import Normaliser
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.settings import LayerSettings
from reluctant.hdl.messages import MESSAGE_WORDS, Operation, Status
from reluctant.hdl.system_config import SystemConfig

from .attention import default_normaliser
from .check import Bench, Check, require
from .workloads import draw_rows

__all__ = ["command_checks"]

BUDGET, TOKENS = 6, 16
TIMEOUT_BITS = 12
NO_OPERATION, NO_POLICY = 99, 99


def command_checks() -> Iterator[Check]:
    """All of this module."""
    yield Check("errors/malformed-commands", _malformed)
    yield Check("errors/refused-commands", _refused)
    yield Check("errors/full-region", _full)
    yield Check("errors/bad-packets", _bad_packets)
    yield Check("errors/missing-packet", _missing_packet)
    yield Check("sequences/share-the-unit", _sequences, _lacks_sequences)
    yield Check("restarts/warm-and-cold", _restarts)


class _Conversation:
    """One layer of a sequence under ``streaming``, with the integer model's answers to each of its tokens."""

    def __init__(self, bench: Bench, number: int = 0, budget: int = BUDGET, policy: Policy = Policy.STREAMING):
        unit = bench.unit
        self.bench, self.token = bench, 0
        budget = min(budget, unit.slots)
        numbers = {"sinks": min(1, budget - 1)} if policy is Policy.STREAMING else {}
        self.policy = PolicySettings.create(policy, budget, **numbers)
        random = bench.random("conversation", number)
        shapes = ((unit.heads, TOKENS, unit.head_dim), *2 * ((unit.kv_heads, TOKENS, unit.head_dim),))
        self.rows = [draw_rows(random, shape) for shape in shapes]
        settings = _plain_settings(bench)
        tensors = [torch.from_numpy(array) for array in self.rows]
        self.run = run_policy(settings, self.policy, *tensors, mass_bits=unit.mass_bits)
        self.sequence = bench.system.open_sequence(number, self.policy, 1)

    def arrays(self, token: int) -> list:
        """Keys, values and queries of a token."""
        q, k, v = (array[:, token] for array in self.rows)
        return [k, v, q]

    def go_on(self, steps: int = 1) -> None:
        """Take the next steps, each of which must be answered as the model says."""
        for _ in range(steps):
            self.check([self.sequence.step(0, *self.arrays(self.token)).heads])

    def check(self, answers: Sequence) -> None:
        """The answers to the next tokens."""
        part = slice(self.token, self.token + len(answers))
        model = {name: array[:, part] for name, array in expected(self.run.attention).data.items()}
        comparison = compare(observed(answers), model)
        require(not comparison.mismatches, f"token {self.token}: {'; '.join(comparison.examples)}")
        self.token += len(answers)


def _plain_settings(bench: Bench) -> LayerSettings:
    unit, normaliser = bench.unit, Normaliser[default_normaliser(bench.config).setting.upper()]
    return LayerSettings.create(unit.heads, unit.head_dim, kv_heads=unit.kv_heads, normaliser=normaliser)


def _set_up(bench: Bench) -> None:
    bench.system.configure_layer(0, _plain_settings(bench), emit_context=True)


# Errors ---------------------------------------------------------------------------------------------------------------


def _raw(bench: Bench, operation: int, words: Sequence[int] = (), sequence: int = 0, layer: int = 0) -> int:
    """The status of a command that the host link would not send; no other command may be under way."""
    transport, registers = bench.system.transport, bench.system.registers
    message = [operation | sequence << 8 | layer << 16, *words]
    accesses = [Access(registers.address("COMMAND", index), word) for index, word in enumerate(message)]
    transport.execute([*accesses, Access(registers.address("SEND"), len(message))])
    require(transport.wait(), f"the command {message} is not answered")
    reads = [Access(registers.address("REPLY", 0)), Access(registers.address("TAKE"), 1)]
    head = transport.execute(reads)[0]
    require(head & 0xFF == operation, f"the command {message} is answered with {head:#010x}")
    return head >> 8 & 0xFF


def _malformed(bench: Bench) -> None:
    """Unknown commands and wrong lengths are answered with their status; a sequence that is open goes on."""
    _set_up(bench)
    conversation = _Conversation(bench)
    conversation.go_on(2)
    long = [0] * (MESSAGE_WORDS - 1)
    cases = [
        (Status.BAD_OPERATION, NO_OPERATION, []),
        (Status.BAD_OPERATION, 255, long),
        (Status.BAD_LENGTH, Operation.OPEN, [0]),
        (Status.BAD_LENGTH, Operation.INFO, long),
        (Status.BAD_LENGTH, Operation.SET_HEAD, []),
        (Status.BAD_LENGTH, Operation.SET_LAYER, [0]),
        (Status.BAD_LENGTH, Operation.SLOTS, long),
        (Status.BAD_LENGTH, Operation.STATE, [1]),
    ]
    for status, operation, words in cases:
        given = _raw(bench, operation, words)
        require(
            given == status, f"command {operation} with {len(words)} words was answered with {given}, not {status!r}"
        )
        conversation.go_on()


def _refused(bench: Bench) -> None:
    """Commands whose contents are wrong are told by the error of their kind."""
    system, config = bench.system, bench.config
    _set_up(bench)
    conversation = _Conversation(bench)
    conversation.go_on()
    sequence, policy = conversation.sequence, conversation.policy
    wrong: list[tuple[type, Callable]] = [
        (errors.BadSequenceError, lambda: system.step(config.sequences, 0, *conversation.arrays(0))),
        (errors.AlreadyOpenError, lambda: system.open_sequence(0, policy, 1)),
        (errors.BadValueError, lambda: system.set_timeout(40)),
        (errors.BadLayerError, lambda: system.set_layer(config.layers)),
        (errors.BadHeadError, lambda: system.set_head(0, config.unit.heads, HeadSettings())),
        (errors.BadHeadError, lambda: sequence.slots(0, config.unit.kv_heads)),
        (errors.BadValueError, lambda: system.set_layer(0, head_dim=config.unit.lanes + 1)),
    ]
    if config.sequences > 1:
        wrong.append((errors.ClosedError, lambda: system.step(1, 0, *conversation.arrays(0))))
        too_large = PolicySettings.create(Policy.REFUSE, config.unit.slots)
        wrong.append((errors.NoSpaceError, lambda: system.open_sequence(1, too_large, 1)))
    for kind, call in wrong:
        _require_error(kind, call)
        conversation.go_on()
    unknown = _raw(bench, Operation.OPEN, (NO_POLICY | 1 << 8, BUDGET, *[0] * 6, 0, 1), sequence=config.sequences - 1)
    wanted = {Status.BAD_POLICY, Status.ALREADY_OPEN} if config.sequences == 1 else {Status.BAD_POLICY}
    require(unknown in wanted, f"a policy that there is not was answered with {unknown}")
    conversation.go_on()


def _require_error(kind: type, call: Callable) -> None:
    try:
        call()
    except kind:
        return
    except errors.HostError as error:
        require(False, f"{kind.__name__} is right: {type(error).__name__} came ({error})")
    require(False, f"{kind.__name__} is right: nothing was refused")


def _full(bench: Bench) -> None:
    """A full region refuses steps under ``refuse``; their packets are dropped, its rows stay, the device goes on."""
    _set_up(bench)
    conversation = _Conversation(bench, policy=Policy.REFUSE)
    budget = conversation.policy.budget
    dropped = bench.system.cycles()["PACKETS_DROPPED"]
    conversation.go_on(budget)
    for token in range(budget, budget + 3):
        _require_error(errors.FullError, lambda token=token: conversation.sequence.step(0, *conversation.arrays(token)))
    require(conversation.sequence.state(0).rows == budget, "rows left a region that was full")
    count = bench.system.cycles()["PACKETS_DROPPED"] - dropped
    require(count == 3, f"{count} packets were dropped for 3 steps that were refused")
    conversation.sequence.reset()
    conversation.token = 0
    conversation.go_on(budget)


def _bad_packets(bench: Bench) -> None:
    """A packet that is too short or too long: its step did not happen; the next is answered as ever."""
    unit, system = bench.unit, bench.system
    _set_up(bench)
    conversation = _Conversation(bench)
    whole = (2 * unit.kv_heads + unit.heads) * unit.head_dim
    for size in (unit.lanes, whole - unit.lanes, whole + unit.lanes):
        conversation.go_on()
        system.transport.send(bytes(size))
        status = _raw(bench, Operation.STEP, (1, 0, 0))
        require(status == Status.BAD_PACKET, f"a packet of {size} bytes, not {whole}, was answered with {status}")
        require(conversation.sequence.state(0).position == conversation.token, "a step with a bad packet happened")
    conversation.go_on(2)


def _missing_packet(bench: Bench) -> None:
    """A packet that does not come is given up in time; what comes of it later is swallowed."""
    unit, system = bench.unit, bench.system
    _set_up(bench)
    conversation = _Conversation(bench)
    conversation.go_on()
    system.set_timeout(TIMEOUT_BITS)
    status = _raw(bench, Operation.STEP, (1, 0, 0))
    require(status == Status.TIMEOUT, f"a packet that did not come was answered with {status}")
    system.set_timeout(0)
    system.transport.send(bytes((2 * unit.kv_heads + unit.heads) * unit.head_dim))
    conversation.go_on(3)


# Sequences and restarts -----------------------------------------------------------------------------------------------


def _lacks_sequences(config: SystemConfig) -> str | None:
    return "built for one sequence" if config.sequences == 1 or config.unit.slots < 4 else None


def _sequences(bench: Bench) -> None:
    """Sequences in turns, with steps of several under way; a closed one's slots are used again."""
    _set_up(bench)
    count = min(3, bench.config.sequences)
    budget = min(BUDGET, bench.unit.slots // count)
    talks = [_Conversation(bench, number, budget) for number in range(count)]
    for token in range(TOKENS // 2):
        tickets = [talk.sequence.submit_step(0, *talk.arrays(token)) for talk in talks]
        for talk, ticket in zip(talks, tickets, strict=True):
            talk.check([bench.system.wait(ticket).heads])
    talks[0].sequence.close()
    again = _Conversation(bench, 0, budget)
    require(again.sequence.first_slot == talks[0].sequence.first_slot, "the slots of a closed sequence are not used")
    for talk in (again, *talks[1:]):
        talk.go_on(TOKENS // 2)


def _restarts(bench: Bench) -> None:
    """A warm restart keeps sequences; a cold one forgets them; either way the scheduler works."""
    system = bench.system
    _set_up(bench)
    conversation = _Conversation(bench)
    conversation.go_on(4)
    system.restart()
    conversation.go_on(4)
    restarts = system.info().restarts
    require(restarts == 1, f"INFO counts {restarts} restarts after one")
    system.restart(cold=True)
    _set_up(bench)
    _require_error(errors.ClosedError, lambda: conversation.sequence.step(0, *conversation.arrays(0)))
    _Conversation(bench).go_on(4)
