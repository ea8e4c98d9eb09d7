"""A stand-in for a system behind its transport: mailbox and firmware in Python, results from the integer model."""

from collections import deque

import numpy as np
import torch

from reluctant.boards.transport import Access, BusError, NoPacketError, TransportError
from reluctant.golden.eviction import run_policy
from reluctant.golden.formats import Mode, Normaliser
from reluctant.golden.gating import GatingSettings
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.settings import LayerSettings
from reluctant.hdl.messages import STEP_LIMIT, Operation, Status
from reluctant.hdl.register_map import RegisterMap, system_map
from reluctant.hdl.system_config import SystemConfig

__all__ = ["ModelSystem"]

STEP_CYCLES = 100
COUNTER_NAMES = ("KEY_ROWS", "VALUE_ROWS", "MASKED_HEADS", "NULL_HEADS", "FALLBACKS", "SOFTMAX_HEADS", "JOBS")


class Refusal(Exception):  # noqa: N818
    """A command that is not carried out."""

    def __init__(self, status, detail=0):
        super().__init__(status)
        self.status, self.detail = status, detail


class OpenSequence:
    """What the firmware knows of an open sequence; ``rows`` has the q, k, v and flags of each layer so far."""

    def __init__(self, policy, gating, layers, first):
        self.policy, self.gating, self.layers, self.first = policy, gating, layers, first
        self.forget()

    def forget(self):
        self.rows = [[] for _ in range(self.layers)]
        self.runs = [None] * self.layers


class ModelSystem:
    """A :class:`reluctant.boards.transport.Transport`; time passes in :meth:`wait` and :meth:`receive`.

    Attributes
    ----------
    commands
        Every command that was taken, as words.
    faults
        Number of a command, from 0, to the :class:`Status` that it gets instead of being carried out; None: no reply.
    damage
        A function of a result packet (bytearray) and its number, which may change it.
    """

    def __init__(self, config: SystemConfig):
        self.config, self.beat_bytes = config, config.unit.lanes
        self.registers, self.unit_registers = system_map(config), RegisterMap(config.unit)
        self.commands, self.faults, self.damage = [], {}, lambda packet, number: None
        self.cycle, self.closed, self.control, self.memory = 0, False, [], {}
        self.taken, self.answered = [], []
        self._command = [0] * 32
        self._inbox, self._replies = deque(), deque()
        self._inputs, self._outputs = deque(), deque()
        self._irq_enable, self._answers, self._pointer = 0, 0, 0
        self._start_cold()

    def _start_cold(self):
        self.sequences = {}
        self.counters = dict.fromkeys(self.unit_registers.counters, 0)
        self.heads, self.gains, self.layers = {}, {}, {}

    # The bus ----------------------------------------------------------------------------------------------------------

    def execute(self, accesses):
        words = []
        for access in accesses:
            address, word = Access(*access)
            name, index = self._find(address)
            if word is None:
                words.append(self._read(name, index, address))
            else:
                self._write(name, index, word, address)
        return words

    def read(self, address):
        return self.execute([Access(address)])[0]

    def write(self, address, word):
        self.execute([Access(address, word)])

    def read_many(self, addresses):
        return self.execute([Access(address) for address in addresses])

    def write_many(self, writes):
        self.execute([Access(*write) for write in writes])

    def _find(self, address):
        for name, register in self.registers.registers.items():
            step = register.strides[0] if register.strides else 4
            index, rest = divmod(address - register.address, step)
            if 0 <= index < register.count and rest == 0:
                return name, index
        raise BusError(address)

    def _read(self, name, index, address):
        if name == "STATUS":
            words = len(self._replies[0]) if self._replies else 0
            room = self.config.messages - len(self._inbox)
            return self.registers.encode("STATUS", room=room, replies=len(self._replies), words=words)
        if name == "REPLY":
            return self._replies[0][index]
        if name == "MEMORY_DATA":
            self._pointer += 4
            return self.memory.get(self._pointer - 4, 0)
        if name.endswith((".LO", ".HI")):
            return self.cycle if name == "CYCLES.LO" else 0
        return self.registers.encode(name)

    def _write(self, name, index, word, address):
        match name:
            case "COMMAND":
                self._command[index] = word
            case "SEND":
                if len(self._inbox) == self.config.messages:
                    raise BusError(address, word)
                self._inbox.append(self._command[:word])
            case "TAKE":
                self._replies.popleft()
            case "IRQ_ENABLE":
                self._irq_enable = word
            case "CONTROL":
                fields = self.registers.decode(name, word)
                self.control.append({key for key, value in fields.items() if value})
                if fields["cold"]:
                    self._start_cold()
            case "MEMORY_ADDRESS":
                self._pointer = word
            case "MEMORY_DATA":
                self.memory[self._pointer] = word
                self._pointer += 4
            case _:
                raise BusError(address, word)

    # Packets and time -------------------------------------------------------------------------------------------------

    def send(self, packet):
        assert len(packet) % self.beat_bytes == 0
        self._inputs.append(packet)

    def unsent(self):
        return len(self._inputs)

    def receive(self, limit=None):
        if not self._outputs:
            raise NoPacketError("no output packet came")
        return self._outputs.popleft()

    def wait(self, limit=None):
        if self.closed:
            raise TransportError("closed")
        while self._inbox and len(self._replies) < self.config.messages:
            self._do(self._inbox.popleft())
        return bool(self._replies) and self._irq_enable == 1

    def poll(self):
        return self.wait(1)

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # The firmware -----------------------------------------------------------------------------------------------------

    def _do(self, command):
        fault = self.faults.get(len(self.commands), Status.OK)
        self.commands.append(command)
        head, *words = command
        operation, sequence, layer, tag = (head >> shift & 0xFF for shift in (0, 8, 16, 24))
        reply, status, detail = [], fault, 0
        try:
            if fault is None:
                return
            if fault is not Status.OK:
                self._take_packets(operation, words)
                raise Refusal(fault, 1)
            status = Status.OK
            reply = getattr(self, f"_{Operation(operation).name.lower()}")(sequence, layer, *words) or []
        except Refusal as refusal:
            status, detail = refusal.status, refusal.detail
            reply = [0, 0, getattr(refusal, "answered", 0), 0] if operation == Operation.STEP else []
        self._replies.append([operation | status << 8 | detail << 16 | tag << 24, *reply])

    def _take_packets(self, operation, words):
        if operation == Operation.STEP and 1 <= words[0] <= STEP_LIMIT:
            self.taken += [self.cycle] * words[0]
            return [self._inputs.popleft() for _ in range(words[0])]
        return []

    def _info(self, sequence, layer):
        return [sum(1 << number for number in self.sequences), 7, 5, 0]

    def _open(self, number, _, first, budget, sinks, recent, stride, share, seed, active, mass, probe):
        if number >= self.config.sequences:
            raise Refusal(Status.BAD_SEQUENCE)
        if number in self.sequences:
            raise Refusal(Status.ALREADY_OPEN)
        layers, used = first >> 8 & 0xFF, sum(item.layers * item.policy.budget for item in self.sequences.values())
        if used + layers * budget > self.config.unit.slots:
            raise Refusal(Status.NO_SPACE, 2)
        policy = PolicySettings(
            policy=Policy(first & 0xFF),
            budget=budget,
            sinks=sinks,
            recent=recent,
            stride=stride,
            share=share,
            seed=seed,
            normalised=bool(first >> 16),
        )
        gating = GatingSettings(active=active, mass=mass, probe=probe)
        self.sequences[number] = OpenSequence(policy, gating, layers, used)
        return [used]

    def _known(self, sequence, layer=0):
        if sequence >= self.config.sequences:
            raise Refusal(Status.BAD_SEQUENCE)
        if sequence not in self.sequences:
            raise Refusal(Status.CLOSED)
        if layer >= self.sequences[sequence].layers:
            raise Refusal(Status.BAD_LAYER)
        return self.sequences[sequence]

    def _close(self, sequence, layer):
        self._known(sequence)
        del self.sequences[sequence]

    def _reset(self, sequence, layer):
        self._known(sequence).forget()

    def _set_head(self, _, layer, head, *words):
        if head >= self.config.unit.heads:
            raise Refusal(Status.BAD_HEAD, 1)
        self.heads[layer, head] = words

    def _set_gain(self, _, layer, place, *gains):
        head, first = place & 0xFF, place >> 8
        known = self.gains.setdefault((layer, head), [0x2000] * self.config.unit.head_dim)
        known[first : first + len(gains)] = gains

    def _set_layer(self, _, layer, mask, form, head_dim):
        if head_dim % self.config.unit.lanes:
            raise Refusal(Status.BAD_VALUE, 3)
        self.layers[layer] = (mask, form, head_dim)

    def _set_timeout(self, _, layer, bits):
        if bits > 31:
            raise Refusal(Status.BAD_VALUE, 1)

    def _counters(self, _, layer, clear):
        values = [*self.counters.values(), 20 * self.counters["JOBS"], 5 * self.counters["JOBS"]]
        if clear:
            self.counters = dict.fromkeys(self.counters, 0)
        return [half for value in values for half in (value & 0xFFFF_FFFF, value >> 32)]

    def _state(self, sequence, layer):
        known = self._known(sequence, layer)
        run = known.runs[layer]
        return [int(run.attention.rows[-1]) if run else 0, len(known.rows[layer]), known.first, 0, 0]

    def _slots(self, sequence, layer, kv_head, first, count):
        run = self._known(sequence, layer).runs[layer]
        positions = run.kept[-1, kv_head, first : first + count].tolist()
        return [word for position in positions for word in (10 * position, position)]

    def _step(self, sequence, layer, count, flags, only_append):
        packets = self._take_packets(Operation.STEP, (count,))
        known = self._known(sequence, layer)
        for token, packet in enumerate(packets):
            known.rows[layer].append((packet, bool(flags >> token & 1)))
            run = self._run(known, layer, only_append)
            if run.refused is not None:
                known.rows[layer].pop()
                refusal = Refusal(Status.FULL)
                refusal.answered = 0 if only_append else token
                raise refusal
            known.runs[layer] = run
            self._count(run, layer)
            self.cycle += STEP_CYCLES
            if not only_append:
                self._answer(run, layer)
        slots = [*run.slots[-1].tolist(), 0]
        pairs = [low | high << 16 for low, high in zip(slots[::2], slots[1::2], strict=False)]
        off = sum(1 << head for head, value in enumerate(run.off[-1].tolist()) if value)
        return [int(run.attention.rows[-1]), len(known.rows[layer]) - 1, count, off, *pairs]

    def _run(self, known, layer, only_append):
        unit, (_, _, head_dim) = self.config.unit, self.layers[layer]
        rows = [np.frombuffer(packet, np.int8).reshape(-1, head_dim) for packet, _ in known.rows[layer]]
        kv = unit.kv_heads
        if only_append:
            rows = [np.concatenate([row, np.zeros((unit.heads, head_dim), np.int8)]) for row in rows]
        k, v, q = (
            torch.from_numpy(np.stack([row[part] for row in rows], axis=1))
            for part in (slice(kv), slice(kv, 2 * kv), slice(2 * kv, None))
        )
        flags = torch.tensor([flag for _, flag in known.rows[layer]])
        options = {"layer": layer, "flags": flags, "gating": known.gating, "mass_bits": unit.mass_bits}
        return run_policy(self._settings(layer), known.policy, q, k, v, **options)

    def _settings(self, layer):
        unit, (mask, form, head_dim) = self.config.unit, self.layers[layer]
        names = ("THETA", "MODE", "KAPPA", "MIN_ACTIVE", "MIN_MASS", "ALPHA", "SINK")
        heads = [
            [tuple(self.unit_registers.decode(f"HEAD_TABLE.{name}", word).values()) for name, word in zip(
                names, self.heads[layer, head], strict=True)]
            for head in range(unit.heads)
        ]  # fmt: skip
        theta, mode, kappa, min_active, min_mass, alpha, sink = zip(*heads, strict=True)
        gains = [self.gains.get((layer, head), [0x2000] * head_dim)[:head_dim] for head in range(unit.heads)]
        return LayerSettings(
            head_dim=head_dim,
            kv_heads=unit.kv_heads,
            theta=tuple(value[0] for value in theta),
            mode=tuple(Mode(value[0]) for value in mode),
            kappa=kappa,
            min_active=tuple(value[0] for value in min_active),
            min_mass=tuple(value[0] for value in min_mass),
            alpha=alpha,
            sink=tuple(value[0] for value in sink),
            gain=tuple(tuple(value - (value >> 15 << 16) for value in gain) for gain in gains),
            mask=tuple(bool(mask >> head & 1) for head in range(unit.heads)),
            normaliser=Normaliser(form & 7),
        )

    def _count(self, run, layer):
        result, beats = run.attention, self.layers[layer][2] // self.config.unit.lanes
        masked = result.masked[:, -1]
        keys, values = int(result.rows[-1]) * int((~masked).sum()), int(result.value_rows[:, -1].sum())
        numbers = [keys, values, masked.sum(), *(getattr(result, name)[:, -1].sum() for name in ("null", "fallback"))]
        numbers += [result.softmax[:, -1].sum(), 1]
        for name, number in zip(COUNTER_NAMES, numbers, strict=True):
            self.counters[name] += int(number)
        self.counters["KEY_BEATS"] += keys * beats
        self.counters["VALUE_BEATS"] += values * beats
        self.counters["BUSY_CYCLES"] += STEP_CYCLES

    def _answer(self, run, layer):
        packet = bytearray(encode_answer(self.config.unit, run.attention, *self.layers[layer][1:]))
        self.damage(packet, self._answers)
        self._answers += 1
        self._outputs.append(bytes(packet))
        self.answered.append((self.cycle - 20, self.cycle - 10))


def encode_answer(unit, result, form, head_dim):
    """Bytes of the answer to the last token of an AttentionResult; ``form`` as in SET_LAYER."""
    parts = []
    for head in range(unit.heads):
        value = {name: int(getattr(result, name)[head, -1]) for name in ("exponent", "active", "mass", "weight_sum")}
        bits = [bool(getattr(result, name)[head, -1]) for name in ("masked", "null", "softmax", "fallback")]
        header = bytes([head, sum(bit << place for place, bit in enumerate(bits)), value["exponent"], 0])
        sizes = {"active": 4, "mass": 5, "weight_sum": 3}
        header += b"".join(value[name].to_bytes(size, "little") for name, size in sizes.items())
        parts.append(header.ljust(unit.sizes.header_beats * unit.lanes, b"\0"))
        if form >> 3 or form & 7 == 0:
            parts.append(result.context[head, -1].numpy().astype("<i4").tobytes())
        if form & 7:
            parts.append(result.output[head, -1].numpy().astype(np.int8).tobytes())
    return b"".join(parts)
