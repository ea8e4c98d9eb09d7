"""The unit's answers against the integer model's, bit for bit."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Comparison", "LayerData", "compare", "expected", "expected_counters", "observed"]

FIELDS = ("masked", "null", "softmax", "fallback", "exponent", "active", "mass", "weight_sum", "context", "output")
EXAMPLES = 5

LayerData = dict[str, np.ndarray]
"""Field name to an array (heads, tokens) or (heads, tokens, head_dim); ``output`` is absent without a normaliser."""


@dataclass(frozen=True)
class Comparison:
    """How many of the (head, token) results differ in any field, plus one for each counter and error bit.

    ``examples`` describes the first few in words.
    """

    mismatches: int
    examples: tuple[str, ...]


def observed(steps) -> LayerData:
    """Fields of a run's step results, in order of tokens."""
    names = [name for name in FIELDS if getattr(steps[0], name) is not None]
    return {name: np.stack([getattr(step, name) for step in steps], axis=1) for name in names}


def expected(result) -> LayerData:
    """Fields of the integer model's result of a layer."""
    return {name: getattr(result, name).numpy() for name in FIELDS if getattr(result, name) is not None}


def expected_counters(golden: LayerData, value_rows: np.ndarray, beats: int, counter_bits: int) -> dict[str, int]:
    """What the performance counters must be at the end, from the integer model; those that tell work, not time."""
    tokens = golden["masked"].shape[1]
    keys = int((~golden["masked"] * np.arange(1, tokens + 1)).sum())
    values = int(value_rows.sum())
    counters = {
        "KEY_BEATS": keys * beats,
        "VALUE_BEATS": values * beats,
        "KEY_ROWS": keys,
        "VALUE_ROWS": values,
        "MASKED_HEADS": int(golden["masked"].sum()),
        "NULL_HEADS": int(golden["null"].sum()),
        "FALLBACKS": int(golden["fallback"].sum()),
        "SOFTMAX_HEADS": int(golden["softmax"].sum()),
        "JOBS": tokens,
    }
    return {name: value % (1 << counter_bits) for name, value in counters.items()}


def compare(unit: LayerData, golden: LayerData, counters: dict, wanted: dict, errors=()) -> Comparison:
    """Compare every field of every head and token, the counters in ``wanted``, and the unit's error bits."""
    if unit.keys() != golden.keys():
        raise ValueError(f"the unit gave {sorted(unit)}: the model has {sorted(golden)}")
    differs, examples = np.zeros(golden["masked"].shape, bool), []
    for name, reference in golden.items():
        wrong = unit[name] != reference
        where = wrong.any(axis=2) if wrong.ndim == 3 else wrong
        differs |= where
        if where.any() and len(examples) < EXAMPLES:
            examples.append(_example(name, unit[name], reference, wrong))
    for name, value in wanted.items():
        if counters[name] != value:
            examples.append(f"counter {name} is {counters[name]}: the model has {value}")
    examples += [f"error bit {name} is set" for name in errors]
    extra = sum(counters[name] != value for name, value in wanted.items()) + len(errors)
    return Comparison(int(differs.sum()) + extra, tuple(examples))


def _example(name: str, unit: np.ndarray, golden: np.ndarray, wrong: np.ndarray) -> str:
    """The first difference in time of one field."""
    head, token, *element = min(np.argwhere(wrong).tolist(), key=lambda index: (index[1], index[0], index[2:]))
    index = (head, token, *element)
    place = f" element {element[0]}" if element else ""
    return f"{name} of head {head} at token {token}{place} is {unit[index]}: the model has {golden[index]}"
