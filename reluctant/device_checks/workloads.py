"""Traces for a device, drawn to its size: deterministic, with the ends of every range among them."""

import numpy as np

from reluctant.golden.trace import Trace
from reluctant.hdl.config import UnitConfig

__all__ = ["draw_rows", "draw_trace"]

SPREAD = 74.0
"""Standard deviation of an int8 drawn evenly."""


def draw_rows(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """int8 (..., head_dim): each row of a kind of its own, some at the ends of the range so that sums are extreme."""
    kinds = random.integers(8, size=shape[:-1])[..., None]
    sign = random.choice([-128, 127], (*shape[:-1], 1))
    small = np.clip(random.normal(0, 12, shape), -128, 127).astype(np.int64)
    even = random.integers(-128, 128, shape)
    rows = np.select(
        [kinds < 4, kinds == 4, kinds == 5, kinds == 6],
        [even, small, random.choice([-128, 127], shape), np.broadcast_to(sign, shape)],
        even * (random.random(shape) < 0.1),
    )
    return rows.astype(np.int8)


def draw_trace(
    unit: UnitConfig,
    random: np.random.Generator,
    *,
    layers: int,
    tokens: int,
    head_dim: int | None = None,
    sinks: bool = False,
) -> Trace:
    """A trace for the unit's heads, with thresholds, gains and flags; ``sinks`` are those of the ``sum`` normaliser.

    Every seventh key equals the first, so that equal scores and masses occur.
    """
    head_dim = head_dim or unit.head_dim
    shape = (layers, unit.heads)
    q = draw_rows(random, (*shape, tokens, head_dim))
    k, v = (draw_rows(random, (layers, unit.kv_heads, tokens, head_dim)) for _ in range(2))
    k[:, :, 6::7] = k[:, :, :1]
    spread = SPREAD**2 * np.sqrt(head_dim)
    return Trace(
        q,
        k,
        v,
        score_scale=(random.uniform(0.5, 4, shape) / spread).astype(np.float32),
        theta=random.normal(0, spread / 4, shape),
        gain=random.uniform(-60, 60, (*shape, head_dim)).astype(np.float32),
        flags=random.random((layers, tokens)) < 0.4,
        sink=random.uniform(0, spread, shape) * sinks,
    )
