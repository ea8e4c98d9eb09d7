"""The unit's answers against the integer model's, bit for bit."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = [
    "Comparison",
    "LayerData",
    "ModelLayer",
    "compare",
    "compare_counters",
    "compare_placement",
    "expected",
    "expected_counters",
    "observed",
]

FIELDS = ("masked", "null", "softmax", "fallback", "exponent", "active", "mass", "weight_sum", "context", "output")
EXAMPLES = 5

LayerData = dict[str, np.ndarray]
"""Field name to an array (heads, tokens) or (heads, tokens, head_dim); ``output`` is absent without a normaliser."""


@dataclass(frozen=True)
class ModelLayer:
    """What the integer model says of a layer: fields, rows attended (tokens,), value rows read (heads, tokens)."""

    data: LayerData
    rows: np.ndarray
    value_rows: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """How much differs, and the first few differences in words."""

    mismatches: int = 0
    examples: tuple[str, ...] = ()

    def __add__(self, other: "Comparison") -> "Comparison":
        return Comparison(self.mismatches + other.mismatches, self.examples + other.examples)


def observed(steps) -> LayerData:
    """Fields of a run's step results, in order of tokens."""
    names = [name for name in FIELDS if getattr(steps[0], name) is not None]
    return {name: np.stack([getattr(step, name) for step in steps], axis=1) for name in names}


def expected(result) -> ModelLayer:
    """The integer model's result of a layer."""
    data = {name: getattr(result, name).numpy() for name in FIELDS if getattr(result, name) is not None}
    return ModelLayer(data, result.rows.numpy().astype(np.int64), result.value_rows.numpy())


def expected_counters(layers: Iterable[ModelLayer], beats: int, counter_bits: int) -> dict[str, int]:
    """What the performance counters must be at the end of these layers; those that tell work, not time. None if the
    unit has no counters."""
    if not counter_bits:
        return {}
    counters: dict[str, int] = {}
    for layer in layers:
        data = layer.data
        keys, values = int((~data["masked"] * layer.rows).sum()), int(layer.value_rows.sum())
        part = {
            "KEY_BEATS": keys * beats,
            "VALUE_BEATS": values * beats,
            "KEY_ROWS": keys,
            "VALUE_ROWS": values,
            "MASKED_HEADS": int(data["masked"].sum()),
            "NULL_HEADS": int(data["null"].sum()),
            "FALLBACKS": int(data["fallback"].sum()),
            "SOFTMAX_HEADS": int(data["softmax"].sum()),
            "JOBS": len(layer.rows),
        }
        counters = {name: counters.get(name, 0) + value for name, value in part.items()}
    return {name: value % (1 << counter_bits) for name, value in counters.items()}


def compare(unit: LayerData, golden: LayerData) -> Comparison:
    """Every field of every head and token; a (head, token) that differs in any field counts once."""
    if unit.keys() != golden.keys():
        raise ValueError(f"the unit gave {sorted(unit)}: the model has {sorted(golden)}")
    differs, examples = np.zeros(golden["masked"].shape, bool), []
    for name, reference in golden.items():
        wrong = unit[name] != reference
        where = wrong.any(axis=2) if wrong.ndim == 3 else wrong
        differs |= where
        if where.any() and len(examples) < EXAMPLES:
            examples.append(_example(name, unit[name], reference, wrong))
    return Comparison(int(differs.sum()), tuple(examples))


def compare_counters(counters: dict[str, int], wanted: dict[str, int], errors: Iterable[str] = ()) -> Comparison:
    """The counters in ``wanted``, and error bits, none of which must be set."""
    examples = [
        f"counter {name} is {counters[name]}: the model has {value}"
        for name, value in wanted.items()
        if counters[name] != value
    ]
    examples += [f"error bit {name} is set" for name in errors]
    return Comparison(len(examples), tuple(examples))


def compare_placement(unit: dict[str, np.ndarray], golden: dict[str, np.ndarray]) -> Comparison:
    """Where tokens went: arrays (tokens, ...) by name; each token that differs counts once a name."""
    total = Comparison()
    for name, reference in golden.items():
        wrong = unit[name] != reference
        tokens = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
        if len(tokens):
            token = int(tokens[0])
            values = f"{unit[name][token].tolist()}: the model has {reference[token].tolist()}"
            total += Comparison(len(tokens), (f"{name} at token {token} is {values}",))
    return total


def _example(name: str, unit: np.ndarray, golden: np.ndarray, wrong: np.ndarray) -> str:
    """The first difference in time of one field."""
    head, token, *element = min(np.argwhere(wrong).tolist(), key=lambda index: (index[1], index[0], index[2:]))
    index = (head, token, *element)
    place = f" element {element[0]}" if element else ""
    return f"{name} of head {head} at token {token}{place} is {unit[index]}: the model has {golden[index]}"
