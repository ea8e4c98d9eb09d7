"""What the scheduler answers, predicted from the rules alone: docs/policies.md, docs/firmware.md, hdl/messages.py.

A command that breaks rules may be refused for any of them: :func:`Model.judge` gives every status that is right. What
it did is checked against the integer model, token by token.
"""

from dataclasses import replace

import numpy as np
import torch

from reluctant.golden.eviction import Evictor, Region, _without
from reluctant.golden.formats import SINK_BITS, Mode, Normaliser
from reluctant.golden.gating import GatingSettings, HeadGate
from reluctant.golden.integer import attend_rows
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.hdl.messages import MESSAGE_WORDS, SLOTS_LIMIT, STEP_LIMIT, Operation, Status
from reluctant.hdl.register_map import RegisterMap

from .systems import CONFIG, HEAD_DIM, HEADS, KV_HEADS, SETTINGS

__all__ = ["Model", "OpenSequence", "Twin", "signed"]

UNIT = CONFIG.unit
REGISTERS = RegisterMap(UNIT)
TOKENS = 4096
LENGTHS = {
    Operation.INFO: 1,
    Operation.OPEN: 11,
    Operation.CLOSE: 1,
    Operation.RESET: 1,
    Operation.STEP: 4,
    Operation.SET_HEAD: 9,
    Operation.SET_LAYER: 4,
    Operation.SET_TIMEOUT: 2,
    Operation.COUNTERS: 2,
    Operation.SLOTS: 4,
    Operation.STATE: 1,
}
OF_SEQUENCE = (Operation.CLOSE, Operation.RESET, Operation.STEP, Operation.SLOTS, Operation.STATE)
OF_REGION = (Operation.STEP, Operation.SLOTS, Operation.STATE)
OF_LAYER = (Operation.SET_HEAD, Operation.SET_GAIN, Operation.SET_LAYER)
STRIDES = {Policy.BUZZ: range(1, 256), Policy.NACL: [1 << bit for bit in range(8)]}


def signed(word: int, bits: int = 32) -> int:
    """Two's complement of the low ``bits`` of a word."""
    word &= (1 << bits) - 1
    return word - (word >> (bits - 1) << bits)


class Twin:
    """A region of a sequence, a token at a time; ``layers`` has the settings of all layers as they are now."""

    def __init__(self, policy: PolicySettings, gating: GatingSettings, layer: int, layers):
        self.policy, self.gating, self.layer, self.layers = policy, gating, layer, layers
        self.flags = torch.zeros(TOKENS, dtype=torch.bool)
        self.position = 0
        self.region = Region(policy.budget, torch.zeros(KV_HEADS, 1, HEAD_DIM, dtype=torch.int8), UNIT.mass_bits)
        self.evictor = Evictor(policy, layer, self.flags)
        self.gate = HeadGate(gating, (False,) * HEADS)

    def full(self) -> bool:
        return self.policy.policy is Policy.REFUSE and self.region.n == self.policy.budget

    def off(self) -> int:
        return sum(1 << head for head, off in enumerate(self.gate.off) if off)

    def step(self, arrays, flag: bool, attend: bool) -> dict:
        """What the token comes to: rows, position, heads off, slots, and its attention or None."""
        k, v, q = (torch.from_numpy(array) for array in arrays)
        t = self.position
        self.flags[t] = flag
        slots = self.evictor.slots(self.region, t)
        self.region.place(slots, t, k, v)
        self.position += 1
        off, result = self.off() if attend else 0, None
        if attend:
            settings, n = self.layers[self.layer], self.region.n
            self.gate._mask = np.array(settings.mask, dtype=bool)
            result = attend_rows(_without(settings, self.gate), q, self.region.k[:, :n], self.region.v[:, :n])
            if not self.evictor.silent(t):
                self.region.earn(result.weights[:, 0])
            self.gate.observe(result.active[:, 0], result.mass[:, 0])
        return {"rows": self.region.n, "position": t, "off": off, "slots": slots.tolist(), "result": result}


class OpenSequence:
    """What is known of an open sequence. ``damaged``: None if only STATE can tell."""

    def __init__(self, policy, gating, layers: int, first: int, settings):
        self.policy, self.gating, self.count, self.first, self.settings = policy, gating, layers, first, settings
        self.forget()

    def forget(self) -> None:
        self.regions = [Twin(self.policy, self.gating, layer, self.settings) for layer in range(self.count)]
        self.damaged: bool | None = False
        self.doubtful_since = 0
        """Commands from this one on were sent after the damage was known."""

    @property
    def slots(self) -> int:
        return self.count * self.policy.budget


class Model:
    """All that commands change."""

    def __init__(self, layers: int):
        self.layers = [SETTINGS if layer < layers else None for layer in range(CONFIG.layers)]
        self.emits = [True] * CONFIG.layers
        self.open: dict[int, OpenSequence] = {}

    # The store --------------------------------------------------------------------------------------------------------

    def runs(self) -> list[tuple[int, int]]:
        """(first slot, slots) of each free run, in order."""
        taken = sorted((item.first, item.first + item.slots) for item in self.open.values())
        edges = zip([0, *(end for _, end in taken)], [*(first for first, _ in taken), UNIT.slots], strict=True)
        return [(low, high - low) for low, high in edges if high > low]

    def place(self, slots: int) -> int | None:
        return next((first for first, length in self.runs() if length >= slots), None)

    # Judgement --------------------------------------------------------------------------------------------------------

    def packets(self, words: list[int]) -> int:
        """Packets that belong to a command."""
        is_step = words[0] & 0xFF == Operation.STEP and len(words) > 1
        return words[1] if is_step and words[1] <= STEP_LIMIT else 0

    def judge(self, words: list[int]) -> set[tuple[Status, int]]:
        """(status, number of the wrong word) that the command may be refused with; empty if it must be done."""
        operation, sequence, layer = (words[0] >> shift & 0xFF for shift in (0, 8, 16))
        if operation not in list(Operation):
            return {(Status.BAD_OPERATION, 0)}
        length = LENGTHS.get(operation)
        if len(words) != length if length else not 3 <= len(words) <= MESSAGE_WORDS:
            return {(Status.BAD_LENGTH, 0)}
        if operation in (*OF_SEQUENCE, Operation.OPEN) and sequence >= CONFIG.sequences:
            return {(Status.BAD_SEQUENCE, 0)}
        if operation in OF_SEQUENCE and sequence not in self.open:
            return {(Status.CLOSED, 0)}
        wrong = set()
        limit = CONFIG.layers if operation in OF_LAYER else self.open[sequence].count if operation in OF_REGION else 256
        if layer >= limit:
            wrong.add((Status.BAD_LAYER, 0))
        judge = getattr(self, f"_judge_{Operation(operation).name.lower()}", lambda *_: set())
        return wrong | judge(words, sequence, self.open.get(sequence))

    def _judge_open(self, words, sequence, known):
        kind, layers, normalised = words[1] & 0xFF, words[1] >> 8 & 0xFF, words[1] >> 16
        budget, sinks, recent, stride, share, seed, active, mass, probe = words[2:]
        wrong = set()
        if known:
            wrong.add((Status.ALREADY_OPEN, 0))
        if kind not in list(Policy):
            return wrong | {(Status.BAD_POLICY, 1)} | self._bad({1: not 1 <= layers <= CONFIG.layers})
        plain = kind in (Policy.REFUSE, Policy.STREAMING)
        crowded = sinks + recent >= budget
        wrong |= self._bad(
            {
                1: not 1 <= layers <= CONFIG.layers or normalised > (kind == Policy.H2O),
                2: not 1 <= budget <= UNIT.slots,
                3: (kind == Policy.REFUSE and sinks > 0) or (crowded and sinks >= budget),
                4: (plain and recent > 0) or (kind == Policy.DMS and recent > 254) or crowded,
                5: stride not in STRIDES.get(kind, [0]),
                6: share > (256 if kind == Policy.NACL else 0),
                7: seed > 0 and kind != Policy.NACL,
                8: active > 0xFFFF,
                9: mass >= 1 << 31,
                10: probe > 255 or (probe == 0 and (active > 0 or mass > 0)),
            }
        )
        if not wrong and self.place(layers * budget) is None:
            wrong.add((Status.NO_SPACE, 2))
        return wrong

    @staticmethod
    def _bad(words: dict[int, bool]) -> set[tuple[Status, int]]:
        return {(Status.BAD_VALUE, word) for word, bad in words.items() if bad}

    def _judge_step(self, words, sequence, known):
        return self._bad({1: not 1 <= words[1] <= STEP_LIMIT, 3: words[3] > 1})

    def _judge_set_head(self, words, *_):
        _, head, theta, mode, kappa, active, _, alpha, sink = words
        limit = 1 << (UNIT.sizes.score_bits - 1)
        wrong = {(Status.BAD_HEAD, 1)} if head >= HEADS else set()
        return wrong | self._bad(
            {
                2: not -limit <= signed(theta) < limit,
                3: mode not in list(Mode),
                4: kappa >= 1 << 18,
                5: active >= 1 << UNIT.sizes.count_bits,
                7: alpha >= 1 << 24 or 0 < alpha & 0xFFFF < 0x8000,
                8: sink >= 1 << SINK_BITS,
            }
        )

    def _judge_set_gain(self, words, *_):
        head, first, count = words[1] & 0xFF, words[1] >> 8, len(words) - 2
        wrong = {(Status.BAD_HEAD, 1)} if head >= HEADS else set()
        values = {2 + i: not -(1 << 15) <= signed(word) < 1 << 16 for i, word in enumerate(words[2:])}
        return wrong | self._bad({1: first + count > HEAD_DIM, **values})

    def _judge_set_layer(self, words, *_):
        _, mask, form, head_dim = words
        wrong = self._bad(
            {
                1: mask >= 1 << HEADS,
                2: form > 15 or form & 7 >= len(Normaliser),
                3: not 0 < head_dim <= UNIT.head_dim or head_dim % UNIT.lanes > 0,
            }
        )
        built = {Normaliser.NONE, *(Normaliser[name.upper()] for name in UNIT.normalisers)}
        if form <= 15 and form & 7 < len(Normaliser) and form & 7 not in built:
            wrong.add((Status.UNSUPPORTED, 2))
        return wrong

    def _judge_set_timeout(self, words, *_):
        return self._bad({1: words[1] > 31})

    def _judge_counters(self, words, *_):
        return self._bad({1: words[1] > 1})

    def _judge_slots(self, words, sequence, known):
        _, kv_head, first, count = words
        budget = known.policy.budget
        wrong = {(Status.BAD_HEAD, 1)} if kv_head >= KV_HEADS else set()
        return wrong | self._bad({2: first >= budget, 3: not 1 <= count <= SLOTS_LIMIT or first + count > budget})

    # What is done -----------------------------------------------------------------------------------------------------

    def do(self, words: list[int], reply: list[int]) -> None:
        """A command other than STEP was done; its reply is without word 0."""
        operation, sequence, layer = (words[0] >> shift & 0xFF for shift in (0, 8, 16))
        getattr(self, f"_do_{Operation(operation).name.lower()}")(words, sequence, layer, reply)

    def _do_info(self, words, sequence, layer, reply):
        lengths = [length for _, length in self.runs()]
        assert reply[:3] == [sum(1 << number for number in self.open), sum(lengths), max(lengths, default=0)]
        assert reply[3:] == [0]

    def _do_open(self, words, sequence, layer, reply):
        kind, budget, sinks, recent, stride, share, seed, active, mass, probe = words[1:]
        policy = PolicySettings(
            policy=Policy(kind & 0xFF),
            budget=budget,
            sinks=sinks,
            recent=recent,
            stride=stride,
            share=share,
            seed=seed,
            normalised=bool(kind >> 16),
        )
        layers, gating = kind >> 8 & 0xFF, GatingSettings(active=active, mass=mass, probe=probe or 1)
        first = self.place(layers * budget)
        assert reply == [first]
        self.open[sequence] = OpenSequence(policy, gating, layers, first, self.layers)

    def _do_close(self, words, sequence, layer, reply):
        assert reply == []
        del self.open[sequence]

    def _do_reset(self, words, sequence, layer, reply):
        assert reply == []
        self.open[sequence].forget()

    def _do_set_head(self, words, sequence, layer, reply):
        assert reply == []
        names = ("THETA", "MODE", "KAPPA", "MIN_ACTIVE", "MIN_MASS", "ALPHA", "SINK")
        fields = [REGISTERS.decode(f"HEAD_TABLE.{name}", word) for name, word in zip(names, words[2:], strict=True)]
        theta, mode, kappa, active, mass, alpha, sink = (tuple(field.values()) for field in fields)
        new = {"theta": theta[0], "mode": Mode(mode[0]), "kappa": kappa, "alpha": alpha}
        new |= {"min_active": active[0], "min_mass": mass[0], "sink": sink[0]}
        settings, head = self.layers[layer], words[1]
        changed = {
            name: (*(old := getattr(settings, name))[:head], value, *old[head + 1 :]) for name, value in new.items()
        }
        self.layers[layer] = replace(settings, **changed)

    def _do_set_gain(self, words, sequence, layer, reply):
        assert reply == []
        settings, head, first = self.layers[layer], words[1] & 0xFF, words[1] >> 8
        gain = [list(row) for row in settings.gain]
        gain[head][first : first + len(words) - 2] = [signed(word, 16) for word in words[2:]]
        self.layers[layer] = replace(settings, gain=tuple(tuple(row) for row in gain))

    def _do_set_layer(self, words, sequence, layer, reply):
        assert reply == []
        mask = tuple(bool(words[1] >> head & 1) for head in range(HEADS))
        self.layers[layer] = replace(self.layers[layer], mask=mask, normaliser=Normaliser(words[2] & 7))
        self.emits[layer] = bool(words[2] >> 3)

    def _do_set_timeout(self, words, sequence, layer, reply):
        assert reply == []

    def _do_counters(self, words, sequence, layer, reply):
        assert len(reply) == 2 * (len(REGISTERS.counters) + 2)

    def _do_slots(self, words, sequence, layer, reply):
        _, kv_head, first, count = words
        known = self.open[sequence]
        assert len(reply) == 2 * count
        if known.damaged is not False:
            return
        region = known.regions[layer].region
        for i in range(min(count, region.n - first)):
            at = kv_head, first + i
            assert reply[2 * i : 2 * i + 2] == [int(region.mass[at]), int(region.position[at])], at

    def _do_state(self, words, sequence, layer, reply):
        known = self.open[sequence]
        twin = known.regions[layer]
        rows, position, first, off, damaged = reply
        assert first == known.first + layer * known.policy.budget
        if known.damaged is not None:
            assert bool(damaged) == known.damaged
        known.damaged = bool(damaged)
        if not damaged:
            assert (rows, position, off) == (twin.region.n, twin.position, twin.off())
