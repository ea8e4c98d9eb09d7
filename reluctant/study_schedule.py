"""Which tokens of a long sequence attend, and over which of them cycles are counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

__all__ = ["Schedule", "Stretch", "schedule"]

MEASURED = 16
"""Tokens over which cycles are counted, up to each context."""
SETTLING = 16
"""Tokens that attend before them where the weights of a step matter to the next ones."""


@dataclass(frozen=True)
class Stretch:
    """Cycles are counted from the end of the answer to token ``first - 1`` to that of the answer to ``context - 1``."""

    context: int
    first: int

    @property
    def tokens(self) -> int:
        return self.context - self.first


@dataclass(frozen=True, eq=False)
class Schedule:
    """``attends`` (tokens,) bool: other tokens are only appended. Each stretch, and a token before it, attends."""

    attends: np.ndarray
    stretches: tuple[Stretch, ...]

    def blocks(self) -> Iterator[tuple[int, int, bool]]:
        """(first, last + 1, attends) of runs of tokens that are alike, in order."""
        edges = np.flatnonzero(np.diff(self.attends)) + 1
        bounds = [0, *edges.tolist(), len(self.attends)]
        for first, stop in pairwise(bounds):
            yield first, stop, bool(self.attends[first])


def schedule(contexts: Sequence[int], *, changes: bool) -> Schedule:
    """For rising contexts of 4 or more.

    ``changes``: what a step does depends on the weights of those before it, so some attend before each stretch.
    """
    attends = np.zeros(contexts[-1], bool)
    stretches = []
    for context in contexts:
        stretch = Stretch(context, context - min(MEASURED, context // 2))
        attends[max(0, stretch.first - (SETTLING if changes else 1)) : context] = True
        stretches.append(stretch)
    return Schedule(attends, tuple(stretches))
