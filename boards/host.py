"""The host of a system: opens sequences, sends steps, takes results."""

from collections.abc import Sequence as Items
from contextlib import suppress
from functools import partial
from typing import Self

import numpy as np

from reluctant.firmware.build import build as build_firmware
from reluctant.golden.formats import Normaliser
from reluctant.golden.gating import GatingSettings
from reluctant.golden.policies import PolicySettings
from reluctant.golden.settings import LayerSettings
from reluctant.hdl.messages import MESSAGE_WORDS, SLOTS_LIMIT, STEP_LIMIT, Operation
from reluctant.hdl.register_map import RegisterMap, system_map
from reluctant.hdl.system_config import SystemConfig

from .commands import Commands, Ticket
from .errors import HostError, NoReplyError, WrongSystemError
from .results import Answer, PrefillResult, RegionState, SlotContents, StepResult, SystemInfo, decode_answer
from .sequence import Sequence
from .settings import HeadSettings, LayerFormat
from .transport import Access, Transport

__all__ = ["Sequence", "System"]

FLAGS = 32
"""Tokens of a STEP that have a flag."""


class System:
    """A system behind a transport. A context manager, which closes the transport.

    A core that shares its memory with the unit is held at power-up: its firmware is built and loaded then.

    Commands are carried out in order; methods wait for their reply, but for ``submit_step``. What the firmware refuses
    is raised as the :class:`reluctant.boards.errors.CommandError` of its status, what it does not answer as
    :class:`reluctant.boards.errors.NoReplyError`.

    Parameters
    ----------
    transport
        Reaches the system.
    config
        What it was built with.
    patience
        Cycles to wait for a reply; None leaves that to the transport.

    Raises
    ------
    WrongSystemError
        If it was built otherwise.
    """

    def __init__(self, transport: Transport, config: SystemConfig, *, patience: int | None = None):
        self.transport, self.config = transport, config
        self.registers, self._unit_registers = system_map(config), RegisterMap(config.unit)
        self._commands = Commands(transport, self.registers, patience)
        self._formats: dict[int, LayerFormat] = {}
        self._check_identity()
        transport.write(self.registers.address("IRQ_ENABLE"), self.registers.encode("IRQ_ENABLE", reply=1))
        if config.unit.shared_memory and self._is_held():
            self.load_firmware(build_firmware(config).image)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self.transport.__exit__(*exception)

    def _is_held(self) -> bool:
        status = self.transport.read(self.registers.address("STATUS"))
        return bool(self.registers.decode("STATUS", status)["held"])

    def _check_identity(self) -> None:
        names = ("ID", "VERSION", "CONFIG_HASH")
        words = self.transport.read_many([self.registers.address(name) for name in names])
        for name, word in zip(names, words, strict=True):
            wanted = self.registers.encode(name)
            shift = 16 if name == "VERSION" else 0
            if word >> shift != wanted >> shift:
                raise WrongSystemError(f"{name} is {word:#010x}: {wanted:#010x} is right (was it built otherwise?)")

    # Sequences --------------------------------------------------------------------------------------------------------

    def open_sequence(
        self, number: int, policy: PolicySettings, layers: int | None = None, gating: GatingSettings | None = None
    ) -> Sequence:
        """Open a sequence of ``layers`` (default: all) regions; raises NoSpaceError, AlreadyOpenError, ..."""
        layers = self.config.layers if layers is None else layers
        gating = gating or GatingSettings()
        kind = policy.policy | layers << 8 | policy.normalised << 16
        numbers = (policy.budget, policy.sinks, policy.recent, policy.stride, policy.share, policy.seed)
        words = (kind, *numbers, gating.active, gating.mass, gating.probe)
        first = self._do(Operation.OPEN, number, 0, words, lambda reply, _: reply[0])
        return Sequence(self, number, policy, layers, first)

    def close_sequence(self, number: int) -> None:
        """Give a sequence's slots back."""
        self._do(Operation.CLOSE, number)

    def reset(self, number: int) -> None:
        """Let a sequence forget its rows, and what damaged it."""
        self._do(Operation.RESET, number)

    # Steps ------------------------------------------------------------------------------------------------------------

    def submit_step(self, sequence: int, layer: int, keys, values, queries=None, *, flag: bool = False) -> Ticket:
        """Send a token's rows; :meth:`wait` gives the :class:`StepResult`. As many steps go ahead as the mailbox holds.

        Parameters
        ----------
        keys, values
            int8, (kv_heads, head_dim).
        queries
            int8, (heads, head_dim); without them the token is only appended.
        flag
            The token is to leave as soon as it leaves the recent window (DMS).

        Raises
        ------
        ValueError
            If the arrays do not fit, or :meth:`set_layer` never said what the layer sends.
        """
        tokens = [None if rows is None else np.asarray(rows)[:, None] for rows in (keys, values, queries)]
        return self._submit(sequence, layer, *tokens, flags=[flag], finish=self._step_result)

    def step(self, sequence: int, layer: int, keys, values, queries=None, *, flag: bool = False) -> StepResult:
        """:meth:`submit_step`, then :meth:`wait`."""
        return self.wait(self.submit_step(sequence, layer, keys, values, queries, flag=flag))

    def wait(self, ticket: Ticket) -> StepResult:
        """The result of a step that was submitted, or its error. In any order, any number of times."""
        return self._commands.wait(ticket)

    def prefill(self, sequence: int, layer: int, keys, values, queries=None, *, flags=None) -> PrefillResult:
        """Many tokens at once: one command for up to ``STEP_LIMIT`` of them, or for 32 where any is flagged.

        Parameters
        ----------
        keys, values
            int8, (kv_heads, tokens, head_dim).
        queries
            int8, (heads, tokens, head_dim); without them the tokens are only appended.
        flags
            (tokens,) bool, see :meth:`submit_step`.

        Raises
        ------
        CommandError
            For the first command that failed; its ``answers`` are those of all tokens before.
        """
        arrays = [None if rows is None else np.asarray(rows) for rows in (keys, values, queries)]
        tokens = arrays[0].shape[1]
        flags = np.zeros(tokens, bool) if flags is None else np.asarray(flags, bool)
        length = FLAGS if flags.any() else STEP_LIMIT
        tickets = []
        for start in range(0, tokens, length):
            part = slice(start, start + length)
            rows = [None if array is None else array[:, part] for array in arrays]
            tickets.append(self._submit(sequence, layer, *rows, flags=flags[part], finish=self._prefill_result))
        return self._join(tickets)

    def _join(self, tickets: list[Ticket]) -> PrefillResult:
        answers: list[Answer] = []
        for ticket in tickets:
            try:
                result = self.wait(ticket)
            except HostError as error:
                self._commands.wait_all()
                error.answers = (*answers, *getattr(error, "answers", ()))
                raise
            answers += result.answers
        return PrefillResult(**{**vars(result), "answers": tuple(answers)})

    def _submit(self, sequence: int, layer: int, keys, values, queries, *, flags: Items[bool], finish) -> Ticket:
        """A STEP of as many tokens as there are flags; arrays (heads, tokens, head_dim)."""
        form = self._format(layer)
        parts = [("keys", keys, self.config.unit.kv_heads), ("values", values, self.config.unit.kv_heads)]
        if queries is not None:
            parts.append(("queries", queries, self.config.unit.heads))
        for name, rows, heads in parts:
            wanted = (heads, len(flags), form.head_dim)
            if rows.dtype != np.int8 or rows.shape != wanted:
                raise ValueError(f"{name} are {rows.dtype} {rows.shape}: int8 {wanted} is needed")
        packets = [
            b"".join(np.ascontiguousarray(rows[:, token]).tobytes() for _, rows, _ in parts)
            for token in range(len(flags))
        ]
        bits = sum(1 << token for token, flag in enumerate(flags) if flag)
        words = (len(flags), bits, int(queries is None))
        decode = None
        if queries is not None:
            contents = {"contexts": form.sends_context, "outputs": form.sends_output}
            decode = partial(decode_answer, self.config.unit, head_dim=form.head_dim, **contents)
        return self._commands.send(Operation.STEP, int(sequence), layer, words, finish, packets=packets, decode=decode)

    def _placement(self, reply: list[int]) -> dict:
        n, position, _, off, *pairs = reply
        slots = [pair >> shift & 0xFFFF for pair in pairs for shift in (0, 16)][: self.config.unit.kv_heads]
        return {"n": n, "position": position, "slots": np.array(slots, np.int64), "off": self._heads(off)}

    def _step_result(self, reply: list[int], answers: list[Answer]) -> StepResult:
        return StepResult(heads=answers[0] if answers else None, **self._placement(reply))

    def _prefill_result(self, reply: list[int], answers: list[Answer]) -> PrefillResult:
        return PrefillResult(answers=tuple(answers), **self._placement(reply))

    def _heads(self, bits: int) -> np.ndarray:
        return (bits >> np.arange(self.config.unit.heads) & 1).astype(bool)

    # Settings ---------------------------------------------------------------------------------------------------------

    def set_head(self, layer: int, head: int, settings: HeadSettings) -> None:
        """Settings of a head of a layer, for all sequences; its gains too, where they are given."""
        self._wait_for(self._submit_head(layer, head, settings))

    def set_gain(self, layer: int, head: int, gain: Items[int], first: int = 0) -> None:
        """Gains of a head's elements from ``first`` on, encoded as in :func:`golden.formats.encode_gain`."""
        self._wait_for(self._submit_gain(layer, head, gain, first))

    def set_layer(
        self,
        layer: int,
        *,
        mask: int = 0,
        normaliser: Normaliser = Normaliser.NONE,
        emit_context: bool = False,
        head_dim: int | None = None,
    ) -> None:
        """What all heads of a layer share, for all sequences; see :class:`LayerFormat`."""
        head_dim = self.config.unit.head_dim if head_dim is None else head_dim
        form = LayerFormat(mask=mask, normaliser=normaliser, emit_context=emit_context, head_dim=head_dim)
        self._do(Operation.SET_LAYER, 0, layer, (mask, normaliser | emit_context << 3, head_dim))
        self._formats[layer] = form

    def configure_layer(self, layer: int, settings: LayerSettings, *, emit_context: bool = False) -> None:
        """Everything that the golden model's settings of a layer say."""
        tickets = []
        for head in range(settings.heads):
            tickets += self._submit_head(layer, head, HeadSettings.from_layer(settings, head))
        self._wait_for(tickets)
        mask = sum(1 << head for head, masked in enumerate(settings.mask) if masked)
        self.set_layer(
            layer, mask=mask, normaliser=settings.normaliser, emit_context=emit_context, head_dim=settings.head_dim
        )

    def _submit_head(self, layer: int, head: int, settings: HeadSettings) -> list[Ticket]:
        encode = self._unit_registers.encode
        words = [encode(f"HEAD_TABLE.{name}", **fields) for name, fields in settings.registers().items()]
        tickets = [self._commands.send(Operation.SET_HEAD, 0, layer, (head, *words))]
        return tickets + (self._submit_gain(layer, head, settings.gain, 0) if settings.gain else [])

    def _submit_gain(self, layer: int, head: int, gain: Items[int], first: int) -> list[Ticket]:
        words = [self._unit_registers.encode("GAIN", value=value) for value in gain]
        room = MESSAGE_WORDS - 2
        return [
            self._commands.send(Operation.SET_GAIN, 0, layer, (head | first + start << 8, *words[start : start + room]))
            for start in range(0, len(words), room)
        ]

    def _wait_for(self, tickets: Items[Ticket]) -> None:
        for ticket in tickets:
            self._commands.wait(ticket)

    def _format(self, layer: int) -> LayerFormat:
        if layer not in self._formats:
            raise ValueError(f"layer {layer} was not set up: set_layer or configure_layer says what it sends")
        return self._formats[layer]

    def set_timeout(self, bits: int) -> None:
        """Give a packet up that does not come for ``2**bits`` cycles; 0: never."""
        self._do(Operation.SET_TIMEOUT, 0, 0, (bits,))

    # What it tells ----------------------------------------------------------------------------------------------------

    def counters(self, *, clear: bool = False) -> dict[str, int]:
        """The unit's performance counters by name, and the core's ``mcycle`` and ``minstret``; may clear the unit's."""
        names = (*self._unit_registers.counters, "mcycle", "minstret")
        reply = self._do(Operation.COUNTERS, 0, 0, (int(clear),), lambda words, _: words)
        return {name: reply[2 * i] | reply[2 * i + 1] << 32 for i, name in enumerate(names)}

    def cycles(self) -> dict[str, int]:
        """The system's own counters by name, such as ``ACTIVE_CYCLES``; the core is not asked."""
        halves = [f"{name}.{half}" for name in self.registers.counters for half in ("LO", "HI")]
        words = self.transport.read_many([self.registers.address(half) for half in halves])
        return {name: words[2 * i] | words[2 * i + 1] << 32 for i, name in enumerate(self.registers.counters)}

    def errors(self, *, clear: bool = False) -> tuple[str, ...]:
        """Names of the bits set in the system's ERROR register; the core is not asked."""
        address = self.registers.address("ERROR")
        word = self.transport.read(address)
        if clear:
            self.transport.write(address, word)
        return tuple(name for name, value in self.registers.decode("ERROR", word).items() if value)

    def info(self) -> SystemInfo:
        """What is open and what is free."""
        bits, free, longest, restarts = self._do(Operation.INFO, finish=lambda words, _: words)
        numbers = tuple(number for number in range(self.config.sequences) if bits >> number & 1)
        return SystemInfo(open=numbers, slots_free=free, longest_run=longest, restarts=restarts)

    def state(self, sequence: int, layer: int) -> RegionState:
        """A layer of a sequence."""
        rows, position, first, off, damaged = self._do(Operation.STATE, sequence, layer, finish=lambda words, _: words)
        return RegionState(rows=rows, position=position, first_slot=first, off=self._heads(off), damaged=bool(damaged))

    def slots(self, sequence: int, layer: int, kv_head: int) -> SlotContents:
        """Mass and position of each row that a KV head of a layer keeps."""
        rows = self.state(sequence, layer).rows
        words: list[int] = []
        for start in range(0, rows, SLOTS_LIMIT):
            count = min(SLOTS_LIMIT, rows - start)
            words += self._do(Operation.SLOTS, sequence, layer, (kv_head, start, count), lambda reply, _: reply)
        pairs = np.array(words, np.int64).reshape(-1, 2)
        return SlotContents(pairs[:, 0], pairs[:, 1])

    def _do(self, operation: Operation, sequence: int = 0, layer: int = 0, words=(), finish=None):
        return self._commands.do(operation, int(sequence), layer, words, finish)

    # The core ---------------------------------------------------------------------------------------------------------

    def restart(self, *, cold: bool = False, now: bool = False) -> None:
        """Restart the core, once what is under way is over, or at once (``now``).

        A warm start keeps sequences and settings. A cold one forgets all sequences, and layers must be set up again. A
        core that does not reply any more is restarted all the same. Steps that are not over end with an error
        (AbortedError; LostError or ClosedError if cold), their packets and answers are dropped, and their sequences
        must be reset. What another host has left in streams and mailbox is cleared away too.
        """
        if not now:
            with suppress(NoReplyError):
                self._commands.wait_all()
        self._start(cold=cold, restart=True)

    def flush(self) -> None:
        """End the packet that was begun on the input stream and will not be gone on with; its step fails."""
        self.control(flush=1)

    def control(self, **fields: int) -> None:
        """Write CONTROL. Fields that are not named are 0, ``hold`` too, which is 1 at power-up with shared memory."""
        word = self.registers.encode("CONTROL", **{"hold": 0, **fields})
        self.transport.write(self.registers.address("CONTROL"), word)

    def load_firmware(self, image: bytes) -> None:
        """Put a firmware into the core's memory and start it cold; what is under way should be over.

        Raises
        ------
        ValueError
            If it is larger than the memory.
        HostError
            If the memory does not hold what was written.
        """
        if len(image) > self.config.memory:
            raise ValueError(f"the firmware has {len(image)} bytes: the memory has {self.config.memory}")
        data = np.frombuffer(image + bytes(-len(image) % 4), "<u4").tolist()
        start = Access(self.registers.address("MEMORY_ADDRESS"), 0)
        port = self.registers.address("MEMORY_DATA")
        self.control(hold=1, cold=1)
        self.transport.execute([start, *(Access(port, word) for word in data)])
        if self.transport.execute([start, *(Access(port) for _ in data)]) != data:
            raise HostError("the core's memory does not hold the firmware that was written")
        self._start(cold=True, restart=False)

    def _start(self, *, cold: bool, restart: bool) -> None:
        """Let the core start; the next start is a warm one again."""
        if cold:
            self._formats.clear()
        self.control(cold=int(cold), restart=int(restart))
        self._commands.recover()
        self.control()
