"""Programs for a simulated unit beside what the integer model answers to them, step by step.

:class:`ModelUnit` keeps rows, masses and positions as the unit must; :class:`Scenario` collects operations, asks the
model as it goes, runs the unit and compares everything bit for bit: headers, contexts, outputs, counters, error bits,
slot tables, the job log.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import torch

from reluctant.compare import FIELDS, compare, expected, observed
from reluctant.golden import formats
from reluctant.golden.formats import Metric
from reluctant.golden.integer import AttentionResult, attend_rows
from reluctant.golden.settings import DEFAULT_GAIN, LayerSettings
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.layouts import JOB_TAGS
from reluctant.hdl.register_map import RegisterMap
from reluctant.sim.program import (
    HeadSettings,
    Job,
    Operation,
    Packet,
    Program,
    Read,
    SetJob,
    Step,
    WaitIdle,
    Write,
)
from reluctant.sim.run import Results, simulate

__all__ = ["SMALL", "START", "ModelUnit", "Scenario", "has_gains", "random_rows"]

SMALL = UnitConfig(
    lanes=8,
    head_dim=32,
    slots=13,
    heads=4,
    kv_heads=2,
    normalisers=("rms_head", "sum"),
    mass_bits=16,
    position_bits=12,
    profiles=2,
    job_queue=3,
)
"""A build that several tests share, so that it is compiled once."""

START = Write(register="START", word=1)
WAITS = ("INPUT_WAIT_CYCLES", "OUTPUT_WAIT_CYCLES", "PIPELINE_WAIT_CYCLES")


def has_gains(config: UnitConfig) -> bool:
    """Whether the build has a gain table."""
    return any(name.startswith("rms") for name in config.normalisers)


def random_rows(random: np.random.Generator, count: int, head_dim: int) -> np.ndarray:
    """int8 rows of a kind drawn at random, some at the ends of the range so that scores reach ``d * 2**14``."""
    shape = (count, head_dim)
    match random.integers(8):
        case 0 | 1 | 2:
            rows = random.integers(-128, 128, shape)
        case 3 | 4:
            rows = np.clip(random.normal(0, 12, shape), -128, 127)
        case 5:
            rows = random.choice([-128, 127], shape)
        case 6:
            rows = np.broadcast_to(random.choice([-128, 127, 0, 1, -1], (count, 1)), shape)
        case _:
            rows = random.integers(-128, 128, shape) * (random.random(shape) < 0.1)
    return rows.astype(np.int8)


class ModelUnit:
    """A unit's state and answers.

    Attributes
    ----------
    keys, values
        (kv_heads, slots, head_dim) int8: bytes of the store.
    elements
        (kv_heads, slots): elements of a row that have been written; 0 for a row never appended.
    mass, position
        (kv_heads, slots): slot statistics.
    counters
        Performance counters that tell work.
    errors
        Error bits that jobs have set.
    victims
        (kv head, slot) of every row evicted, in order.
    log
        What the job log must tell of every job started, in order: fields of JOB_STATE, and words of JOB_HEADS and
        JOB_SLOTS by name and indices behind the tag.
    """

    def __init__(self, config: UnitConfig, settings: dict[tuple[int, int], HeadSettings] | None = None):
        shape = (config.kv_heads, config.slots)
        self.config = config
        self.settings = dict(settings or {})
        self.keys = np.zeros((*shape, config.head_dim), np.int8)
        self.values = self.keys.copy()
        self.elements = np.zeros(shape, np.int64)
        self.mass, self.position = self.elements.copy(), self.elements.copy()
        self.counters, self.errors, self.victims = Counter(), set(), []
        self.log: list[tuple[dict[str, int], dict[tuple, int]]] = []

    def layer(self, job: Job) -> LayerSettings:
        """The integer model's settings for a job."""
        config, full = self.config, HeadSettings()
        heads = [self.settings.get((job.profile, head), full) for head in range(config.heads)]
        gains = []
        for head in heads:
            gain = tuple(head.gain or ())
            gains.append(gain + (formats.encode_gain(DEFAULT_GAIN),) * (config.head_dim - len(gain)))
        names = ("theta", "mode", "kappa", "min_active", "min_mass", "alpha", "sink")
        return LayerSettings(
            head_dim=config.head_dim,
            kv_heads=config.kv_heads,
            gain=tuple(gains),
            mask=tuple(bool(job.mask >> head & 1) for head in range(config.heads)),
            normaliser=job.normaliser,
            **{name: tuple(getattr(head, name) for head in heads) for name in names},
        )

    def run(self, step: Step) -> AttentionResult | None:
        """Append and attend; what the integer model gives, with rows filled up with zeros to the build's length."""
        job = step.job
        self.counters["JOBS"] += 1
        self.log.append(({"done": 1}, {}))
        if job.append:
            for kv in range(self.config.kv_heads):
                self._append(step, kv)
        return self._attend(job, step.queries) if job.attend else None

    def _append(self, step: Step, kv: int) -> None:
        job = step.job
        slot = self.victim(job, kv) if job.evict else job.base + job.slot
        state, words = self.log[-1]
        if slot is None:
            self.errors.add("no_victim")
            state["no_victim"] = 1
            words["JOB_SLOTS", kv] = 1 << 31
            return
        words["JOB_SLOTS", kv] = slot - job.base
        if job.evict:
            self.victims.append((kv, slot))
        for store, rows in ((self.keys, step.keys), (self.values, step.values)):
            store[kv, slot, : job.head_dim] = rows[kv]
        self.elements[kv, slot] = max(self.elements[kv, slot], job.head_dim)
        self.mass[kv, slot], self.position[kv, slot] = 0, job.position

    def victim(self, job: Job, kv: int) -> int | None:
        """The slot that a job overwrites in a KV head; None when nothing is evictable."""
        best, found = None, None
        for slot in range(job.base, job.base + job.n):
            mass, position = int(self.mass[kv, slot]), int(self.position[kv, slot])
            age = job.position - position
            if position < job.sinks or age <= job.recent:
                continue
            key = {
                Metric.POSITION: position,
                Metric.MASS: mass,
                Metric.RATE: formats.rate(mass, age),
            }[job.metric]
            if best is None or key < best:
                best, found = key, slot
        return found

    def _attend(self, job: Job, queries: np.ndarray) -> AttentionResult:
        config, d = self.config, job.head_dim
        window = slice(job.base, job.base + job.n)
        rows = [torch.from_numpy(store[:, window].copy()) for store in (self.keys, self.values)]
        for tensor in rows:
            tensor[:, :, d:] = 0
        padded = torch.zeros(config.heads, config.head_dim, dtype=torch.int8)
        padded[:, :d] = torch.from_numpy(queries)
        result = attend_rows(self.layer(job), padded, *rows)
        weights = result.weights[:, 0].numpy().astype(np.int64)
        earned = weights.reshape(config.kv_heads, -1, job.n).sum(axis=1)
        if not job.silent:
            self.mass[:, window] = np.minimum(self.mass[:, window] + earned, (1 << config.mass_bits) - 1)
        self._count(job, result)
        self._note_heads(result)
        return result

    def drop(self, error: str) -> None:
        """A job whose packet is ``"short"`` or ``"long"``."""
        self.counters["JOBS"] += 1
        self.errors.add(f"packet_{error}")
        self.log.append(({"done": 1, error: 1}, {}))

    def _note_heads(self, result: AttentionResult) -> None:
        words = self.log[-1][1]
        for head in range(self.config.heads):
            active, flags, mass = (int(getattr(result, name)[head, 0]) for name in ("active", "flags", "mass"))
            words["JOB_HEADS.SUMMARY", head] = active | flags << 28
            words["JOB_HEADS.MASS", head] = min(mass, (1 << 32) - 1)

    def _count(self, job: Job, result: AttentionResult) -> None:
        beats = job.head_dim // self.config.lanes
        keys, values = int((~result.masked).sum()) * job.n, int(result.value_rows.sum())
        self.counters += Counter(
            KEY_ROWS=keys,
            KEY_BEATS=keys * beats,
            VALUE_ROWS=values,
            VALUE_BEATS=values * beats,
            MASKED_HEADS=int(result.masked.sum()),
            NULL_HEADS=int(result.null.sum()),
            FALLBACKS=int(result.fallback.sum()),
            SOFTMAX_HEADS=int(result.softmax.sum()),
        )


class Scenario:
    """Operations for a unit, with the model's answers.

    Attributes
    ----------
    model
        The :class:`ModelUnit` after all operations so far.
    errors
        Names of the error bits that the operations must have set.
    """

    def __init__(self, config: UnitConfig, settings: dict[tuple[int, int], HeadSettings] | None = None, seed: int = 0):
        self.config = config
        self.settings = settings or {}
        self.model = ModelUnit(config, self.settings)
        self.random = np.random.default_rng(seed)
        self.errors: set[str] = set()
        self._operations: list[Operation] = []
        self._answers = []
        self._counted = True

    def add(self, *operations: Operation) -> None:
        """Raw operations; the model knows nothing of them."""
        self._operations += operations

    def make_step(self, job: Job, queries: np.ndarray | None = None, keys: np.ndarray | None = None) -> Step:
        """A step with random rows where none are given."""
        config, d = self.config, job.head_dim
        if job.append:
            keys = random_rows(self.random, config.kv_heads, d) if keys is None else keys
        if job.attend and queries is None:
            queries = random_rows(self.random, config.heads, d)
        values = random_rows(self.random, config.kv_heads, d) if job.append else None
        return Step(job, keys if job.append else None, values, queries if job.attend else None)

    def step(self, job: Job, queries: np.ndarray | None = None, keys: np.ndarray | None = None) -> None:
        """Run a job on the unit and on the model."""
        step = self.make_step(job, queries, keys)
        self.add(step)
        result = self.model.run(step)
        self._answers.append(None if result is None else self._fields(job, result))

    def answer(self, step: Step) -> bytes:
        """Run a step on the model alone; the packet that must answer it."""
        return self._packet(step.job, self.model.run(step))

    def start(self, job: Job) -> tuple[Packet, bytes]:
        """Start an attending job without its packet; the packet, to be added later, and what must answer it."""
        step = self.make_step(job)
        self.add(SetJob(job), START)
        return Packet(step.packet()), self.answer(step)

    def refused(self, job: Job, error: str = "bad_job") -> None:
        """A job whose START answers SLVERR."""
        self.add(SetJob(job), replace(START, response="SLVERR"))
        self.errors.add(error)

    def dropped(self, job: Job, beats: int) -> None:
        """Start a job whose packet is ``beats`` longer, or shorter, than it should be; the queue must have room."""
        data = self.make_step(job).packet() + self.random.bytes(max(0, beats) * self.config.lanes)
        if beats < 0:
            data = data[: beats * self.config.lanes]
        self.add(SetJob(job), START, Packet(data))
        self.model.drop("long" if beats > 0 else "short")

    def check_errors(self) -> None:
        """Read ERROR: exactly the bits that the operations so far must have set; then clear it."""
        names = self.errors | self.model.errors
        word = RegisterMap(self.config).encode("ERROR", **dict.fromkeys(names, 1))
        self.add(WaitIdle(), Read(register="ERROR", expect=word), Write(register="ERROR", word=word))
        self.errors.clear()
        self.model.errors.clear()

    def uncounted(self) -> None:
        """From here on counters are not compared (a reset in mid-job lost count of what was done)."""
        self._counted = False

    def read_slots(self) -> None:
        """Read mass and position of every row appended so far, and compare."""
        self.add(WaitIdle())
        for name, values in (("SLOT_MASS", self.model.mass), ("SLOT_POSITION", self.model.position)):
            for kv, slot in np.argwhere(self.model.elements).tolist():
                self.add(Read(register=name, indices=(kv, slot), expect=int(values[kv, slot])))

    def read_log(self) -> None:
        """Read the job log of the latest four jobs, once all have ended, and compare."""
        log, encode = self.model.log, RegisterMap(self.config).encode
        latest = range(max(0, len(log) - JOB_TAGS), len(log))
        state = {f"{name}{number % JOB_TAGS}": value for number in latest for name, value in log[number][0].items()}
        # A job may have ended when the one with its tag had started: what it set is not told apart.
        before = [number for number in range(max(0, len(log) - 5 * JOB_TAGS), len(log)) if number not in latest]
        unsure = {f"{name}{number % JOB_TAGS}" for number in before for name in log[number][0] if name != "done"}
        mask = 0xFFFF_FFFF & ~encode("JOB_STATE", **dict.fromkeys(unsure, 1))
        self.add(WaitIdle(), Read(register="JOBS_STARTED", expect=len(log)))
        self.add(Read(register="JOB_STATE", expect=encode("JOB_STATE", **state) & mask, mask=mask))
        for number in latest:
            for (name, index), word in log[number][1].items():
                if name.startswith("JOB_HEADS") and not self.config.head_log:
                    continue
                # The slot of a row that was dropped means nothing.
                mask = 1 << 31 if (name, word) == ("JOB_SLOTS", 1 << 31) else 0xFFFF_FFFF
                self.add(Read(register=name, indices=(number % JOB_TAGS, index), expect=word, mask=mask))

    def run(self, *, stall_seed: int | None = None, simulator: str = "verilator") -> Results:
        """Simulate and compare everything; AssertionError with the first differences in words."""
        program = Program(tuple(self._operations), self.settings)
        results = simulate(self.config, program, stall_seed=stall_seed, simulator=simulator)
        problems = []
        for number, (step, wanted) in enumerate(zip(results.steps, self._answers, strict=True)):
            assert (step is None) == (wanted is None)
            if wanted is not None:
                found = compare(observed([step]), wanted)
                problems += [f"step {number}, {program.steps[number].job}: {text}" for text in found.examples]
        problems += self._counter_problems(results.counters)
        assert not problems, "\n".join(problems[:10])
        assert set(results.errors) == self.errors | self.model.errors
        return results

    def _counter_problems(self, counters: dict[str, int]) -> list[str]:
        if not self.config.counter_bits:
            return []
        wrap = 1 << self.config.counter_bits
        active = sum(counters[name] for name in ("KEY_BEATS", "VALUE_BEATS", *WAITS))
        problems = []
        if counters["BUSY_CYCLES"] != active % wrap:
            problems.append(f"BUSY_CYCLES is {counters['BUSY_CYCLES']}: its parts give {active % wrap}")
        names = self.model.counters.keys() if self._counted else ()
        for name in names:
            if counters[name] != self.model.counters[name] % wrap:
                problems.append(f"counter {name} is {counters[name]}: the model has {self.model.counters[name] % wrap}")
        return problems

    def _fields(self, job: Job, result: AttentionResult) -> dict[str, np.ndarray]:
        """The model's result as the unit answers it: rows of the job's length, and only what the job sends."""
        fields = expected(result).data
        sent = {"context": job.sends_context, "output": job.sends_output}
        return {
            name: fields[name][:, :, : job.head_dim] if name in sent else fields[name]
            for name in FIELDS
            if sent.get(name, True)
        }

    def _packet(self, job: Job, result: AttentionResult) -> bytes:
        """The answer's packet, byte for byte."""
        fields, parts = self._fields(job, result), []
        for head in range(self.config.heads):
            header = bytes([head, int(result.flags[head, 0]), int(result.exponent[head, 0]), 0])
            for name, size in (("active", 4), ("mass", 5), ("weight_sum", 3)):
                header += int(fields[name][head, 0]).to_bytes(size, "little")
            parts.append(header.ljust(-(-16 // self.config.lanes) * self.config.lanes, b"\0"))
            if job.sends_context:
                parts.append(fields["context"][head, 0].astype("<i4").tobytes())
            if job.sends_output:
                parts.append(fields["output"][head, 0].tobytes())
        return b"".join(parts)
