"""Which symbol follows, by chance."""

import numpy as np

from reluctant.golden.errors import UserError

__all__ = ["Sampler"]


class Sampler:
    """Chooses symbols from logits; equal seeds and equal logits give equal symbols.

    Parameters
    ----------
    temperature
        Logits are divided by it; 0 always takes the most likely symbol, the first of equals.
    top_k
        Only so many of the most likely symbols can be chosen; None: all.
    seed
        0 or more.

    Raises
    ------
    UserError
        If a value is out of range.
    """

    def __init__(self, temperature: float, top_k: int | None, seed: int):
        if not 0 <= temperature < np.inf:
            raise UserError(f"--temperature {temperature:g}: 0 or more is needed, 0.8 is usual")
        if top_k is not None and top_k < 1:
            raise UserError(f"--top-k {top_k}: 1 or more is needed")
        if seed < 0:
            raise UserError(f"--seed {seed}: 0 or more is needed")
        self._temperature, self._top_k, self._chance = temperature, top_k, np.random.default_rng(seed)

    def choose(self, logits: np.ndarray) -> int:
        """The index of one of the logits (symbols,)."""
        if self._temperature == 0:
            return int(logits.argmax())
        likely = np.argsort(-logits, kind="stable")[: self._top_k]
        # A tiny temperature may take all but the first to minus infinity, which is right.
        with np.errstate(over="ignore"):
            weights = np.exp((logits[likely].astype(np.float64) - float(logits[likely[0]])) / self._temperature)
        total = weights.cumsum()
        # Rounding may bring the product up to the total itself.
        place = np.searchsorted(total, self._chance.random() * total[-1], side="right")
        return int(likely[min(place, len(likely) - 1)])
