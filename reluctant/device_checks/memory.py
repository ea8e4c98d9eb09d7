"""Memories: the scheduler's, through the host's port, and the KV store, through real steps."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from reluctant.boards.transport import Access
from reluctant.compare import compare, expected, observed
from reluctant.golden.formats import Mode, Normaliser
from reluctant.golden.integer import attend_rows, concatenate
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.settings import LayerSettings

from .check import Bench, Check, require
from .workloads import draw_rows

__all__ = ["PATTERNS", "memory_checks"]

WORD_BYTES = 4
BLOCK = 512
"""Words of the memory that go over at a time."""
QUESTIONS = 4
"""Steps that attend to a full store; each is sensitive to every byte that it reads."""
FILL = 64
"""Tokens that a command appends: no more than are done before a host loses patience."""
SCATTER = 0x9E37_79B1
"""Odd: products of different numbers with it differ, and so do most of their bits."""
ALL_ONES = 0xFFFF_FFFF


def memory_checks() -> Iterator[Check]:
    """All of this module."""
    yield Check("memory/scheduler", _scheduler)
    for pattern in PATTERNS:
        yield Check(f"memory/kv-store-{pattern}", partial(_store, pattern=pattern))


# The scheduler's memory -----------------------------------------------------------------------------------------------


def _scheduler(bench: Bench) -> None:
    """The whole memory, while the core is held: words that tell their address, then their complements."""
    image = bench.firmware()
    system, words = bench.system, bench.config.memory // WORD_BYTES
    addresses = np.arange(words, dtype=np.uint64) * WORD_BYTES
    mixed = addresses * SCATTER & ALL_ONES
    patterns = {"address": mixed, "complement": mixed ^ ALL_ONES}
    system.control(hold=1, cold=1)
    try:
        for name, pattern in patterns.items():
            _write(bench, pattern.tolist())
            _compare(name, pattern.tolist(), _read(bench, words))
            bench.progress(f"memory: {name}")
    finally:
        system.load_firmware(image)
    require(system.info().open == (), "after its firmware was loaded, the scheduler has open sequences")


def _blocks(bench: Bench, words: int) -> Iterator[tuple[Access, int, range]]:
    start, port = (bench.system.registers.address(name) for name in ("MEMORY_ADDRESS", "MEMORY_DATA"))
    for first in range(0, words, BLOCK):
        yield Access(start, WORD_BYTES * first), port, range(first, min(words, first + BLOCK))


def _write(bench: Bench, words: list[int]) -> None:
    for start, port, block in _blocks(bench, len(words)):
        bench.system.transport.execute([start, *(Access(port, words[index]) for index in block)])


def _read(bench: Bench, words: int) -> list[int]:
    read: list[int] = []
    for start, port, block in _blocks(bench, words):
        read += bench.system.transport.execute([start, *(Access(port) for _ in block)])
    return read


def _compare(name: str, written: list[int], read: list[int]) -> None:
    wrong = [index for index, word in enumerate(written) if read[index] != word]
    if wrong:
        first = wrong[0]
        where = f"at {WORD_BYTES * first:#x} is {read[first]:#010x} after {written[first]:#010x} was written"
        require(False, f"pattern {name}: {len(wrong)} words of the memory differ; that {where}")


# The KV store ---------------------------------------------------------------------------------------------------------


def _addresses(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Each element tells where it is: bytes that differ from those of every neighbour."""
    index = np.arange(np.prod(shape), dtype=np.uint64).reshape(shape)
    return (index * SCATTER >> 11 & 0xFF).astype(np.uint8).view(np.int8)


def _complements(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    return ~_addresses(shape, random)


def _ends(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """-128 and 127 in turns, along rows and from row to row."""
    checker = np.indices(shape[1:]).sum(axis=0) % 2
    return np.broadcast_to(np.where(checker, 127, -128), shape).astype(np.int8)


def _lowest(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """-128 everywhere: the largest sums that there are."""
    return np.full(shape, -128, np.int8)


PATTERNS = {
    "addresses": _addresses,
    "complements": _complements,
    "ends": _ends,
    "lowest": _lowest,
    "random": lambda shape, random: draw_rows(random, shape),
}
"""Name to a function that gives keys and values, (2, kv_heads, slots, head_dim) int8."""


def _store(bench: Bench, *, pattern: str) -> None:
    """Fill every slot of every KV head, then ask with queries that every row takes part in the answer to."""
    unit, system = bench.unit, bench.system
    random = bench.random("store", pattern)
    k, v = PATTERNS[pattern]((2, unit.kv_heads, unit.slots, unit.head_dim), random)
    q = random.integers(-128, 128, (unit.heads, unit.slots, unit.head_dim), np.int8)
    settings = _every_row(unit.heads, unit.kv_heads, unit.head_dim)
    system.configure_layer(0, settings)
    sequence = system.open_sequence(0, PolicySettings.create(Policy.REFUSE, unit.slots), 1)
    asked = range(max(0, unit.slots - QUESTIONS), unit.slots)
    for first in range(0, asked.start, FILL):
        part = slice(first, min(asked.start, first + FILL))
        sequence.prefill(0, k[:, part], v[:, part])
    answers = [sequence.step(0, k[:, token], v[:, token], q[:, token]) for token in asked]
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in (q, k, v)]
    parts = [attend_rows(settings, tensors[0][:, at], *(rows[:, : at + 1] for rows in tensors[1:])) for at in asked]
    model = expected(concatenate(parts, unit.slots))
    comparison = compare(observed([answer.heads for answer in answers]), model.data)
    require(not comparison.mismatches, f"{comparison.mismatches} mismatches: {'; '.join(comparison.examples)}")
    for kv_head in range(unit.kv_heads):
        positions = sequence.slots(0, kv_head).position.tolist()
        require(positions == list(range(unit.slots)), f"KV head {kv_head} keeps the positions {positions}")


def _every_row(heads: int, kv_heads: int, head_dim: int) -> LayerSettings:
    """ReLU with a threshold so low that every row is active: the mass is the exact sum of all scores."""
    lowest = -(head_dim << 14)
    return LayerSettings.create(
        heads, head_dim, kv_heads=kv_heads, mode=Mode.RELU, normaliser=Normaliser.NONE, theta=lowest
    )
