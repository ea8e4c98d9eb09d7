"""A configuration's steps on the system's Verilog, back to back, and on the integer model beside it.

The Verilog sends what a model needs: outputs, and the header of each head (block exponent, counts and sums of weights).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from reluctant.golden.policies import Policy, PolicySettings

from .compare import (
    Comparison,
    ModelLayer,
    compare,
    compare_counters,
    compare_placement,
    expected,
    expected_counters,
    observed,
)
from .energy import Work, energy_pj
from .study_schedule import Schedule, Stretch

if TYPE_CHECKING:
    from torch import Tensor

    from reluctant.boards.host import Sequence, System
    from reluctant.boards.results import StepResult
    from reluctant.golden.deployed import DeployedModel
    from reluctant.golden.unit_attention import UnitOptions
    from reluctant.hdl.config import UnitConfig

__all__ = ["measure_cycles", "model_rows"]

Rows = list[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""int8 q (heads, tokens, d), k and v (kv_heads, tokens, d) of each layer."""


def model_rows(model: "DeployedModel", options: "UnitOptions", windows: "Tensor") -> Rows:
    """The rows of windows (n, T) of symbols, joined to one sequence.

    Each window is computed from an empty context, with everything of ``options`` in the loop. So behind the first, keys
    have the rotary positions that they have in their window.
    """
    import torch

    from reluctant.golden.unit_attention import UnitAttention

    attention, rows = UnitAttention(model, options), []

    def attend(layer: int, *real: "Tensor") -> "Tensor":
        parts = model.quantise(layer, *real)
        rows.append(tuple(part.transpose(0, 1).flatten(1, 2).contiguous().numpy() for part in parts))
        return attention(layer, *real)

    with torch.no_grad():
        model.decoder.stream(windows, attend)
    return rows


def measure_cycles(
    system: "System",
    model: "DeployedModel",
    options: "UnitOptions",
    rows: Rows,
    schedule: Schedule,
    progress: Callable[[int], None] = lambda tokens: None,
) -> dict:
    """Run the schedule on a system that has no sequence open; plain values, for JSON.

    ``contexts`` has an entry for each stretch, with numbers per token of all layers. ``mismatches`` counts head
    results, placements and counters that are not the integer model's. ``progress`` is called with tokens that are over.
    """
    layers, tokens = len(rows), len(schedule.attends)
    whole = PolicySettings.create(Policy.REFUSE, tokens)
    policies = [options.policy_of(layer) or whole for layer in range(layers)]
    settings = [options.settings(model, layer) for layer in range(layers)]
    for layer, item in enumerate(settings):
        system.configure_layer(layer, item)
    sequences = _open(system, policies, options.gating)
    run = _drive(system, sequences, rows, schedule, progress)
    unit, head_dim = system.config.unit, model.config.head_dim
    models = [
        _model(item, policies[layer], options, rows[layer], layer, schedule, unit)
        for layer, item in enumerate(settings)
    ]
    comparison = _compare(run, models, head_dim, unit)
    at = np.flatnonzero(schedule.attends)
    contexts = [
        _numbers(stretch, run, [item.part(at, stretch) for item in models], policies, head_dim, unit)
        for stretch in schedule.stretches
    ]
    return {
        "contexts": contexts,
        "head_results": int(len(at) * layers * unit.heads),
        "mismatches": comparison.mismatches,
        "mismatch_examples": list(comparison.examples[:5]),
    }


# The system -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """``steps`` by layer, of tokens that attend; ``cycles`` of each stretch by its context; counters; error bits."""

    steps: "list[list[StepResult]]"
    cycles: dict[int, int]
    counters: dict[str, int]
    errors: tuple[str, ...]


def _open(system: "System", policies: list[PolicySettings], gating) -> "list[Sequence]":
    """The sequence of each layer: one for all layers that are alike, since a sequence has one policy."""
    opened: dict[PolicySettings, Sequence] = {}
    for policy in policies:
        if policy not in opened:
            last = max(layer for layer, item in enumerate(policies) if item == policy)
            opened[policy] = system.open_sequence(len(opened), policy, last + 1, gating)
    return [opened[policy] for policy in policies]


def _drive(system: "System", sequences: "list[Sequence]", rows: Rows, schedule: Schedule, progress) -> _Run:
    import torch

    from reluctant.golden.eviction import default_flags

    flags = [default_flags(torch.from_numpy(q)).numpy() for q, _, _ in rows]
    transport, layers = system.transport, len(rows)
    system.counters(clear=True)
    steps, ends = [[] for _ in rows], {}
    for first, stop, attends in schedule.blocks():
        if not attends:
            part = slice(first, stop)
            for layer, ((_, k, v), sequence) in enumerate(zip(rows, sequences, strict=True)):
                flagged = flags[layer][part] if sequence.policy.policy is Policy.DMS else None
                sequence.prefill(layer, k[:, part], v[:, part], flags=flagged)
            progress(stop - first)
            continue
        before, tickets = len(transport.answered), []
        for token in range(first, stop):
            for layer, ((q, k, v), sequence) in enumerate(zip(rows, sequences, strict=True)):
                parts = (array[:, token] for array in (k, v, q))
                tickets.append(sequence.submit_step(layer, *parts, flag=bool(flags[layer][token])))
            progress(1)
        for index, ticket in enumerate(tickets):
            steps[index % layers].append(system.wait(ticket))
        answers = transport.answered[before + layers - 1 :: layers]
        ends |= {first + index: last for index, (_, last) in enumerate(answers)}
    cycles = {stretch.context: ends[stretch.context - 1] - ends[stretch.first - 1] for stretch in schedule.stretches}
    return _Run(steps, cycles, system.counters(), system.errors())


# The integer model ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Twin:
    """What the integer model says of a layer, of the tokens that attend, in order."""

    layer: ModelLayer
    slots: np.ndarray
    off: np.ndarray

    def part(self, at: np.ndarray, stretch: Stretch) -> "_Twin":
        """Of the tokens of a stretch; ``at`` are the tokens that attend."""
        chosen = (at >= stretch.first) & (at < stretch.context)
        data = {name: array[:, chosen] for name, array in self.layer.data.items()}
        layer = ModelLayer(data, self.layer.rows[chosen], self.layer.value_rows[:, chosen])
        return _Twin(layer, self.slots[chosen], self.off[chosen])


def _model(settings, policy, options, rows, number: int, schedule: Schedule, unit: "UnitConfig") -> _Twin:
    import torch

    from reluctant.golden.eviction import Evictor, Region, default_flags
    from reluctant.golden.gating import GatingSettings, HeadGate
    from reluctant.golden.integer import attend_rows, concatenate

    q, k, v = (torch.from_numpy(array) for array in rows)
    region, evictor = Region(policy.budget, k, unit.mass_bits), Evictor(policy, number, default_flags(q))
    gate = HeadGate(options.gating or GatingSettings(), settings.mask)
    results, slots, off = [], [], []
    for token, attends in enumerate(schedule.attends):
        slot = evictor.slots(region, token)
        region.place(slot, token, k[:, token], v[:, token])
        if not attends:
            continue
        off.append(gate.off.copy())
        mask = tuple(bool(a or b) for a, b in zip(settings.mask, gate.off, strict=True))
        kept = (part[:, : region.n] for part in (region.k, region.v))
        result = attend_rows(replace(settings, mask=mask), q[:, token], *kept)
        if not evictor.silent(token):
            region.earn(result.weights[:, 0])
        gate.observe(result.active[:, 0], result.mass[:, 0])
        results.append(replace(result, weights=None))
        slots.append(slot.numpy())
    layer = expected(concatenate(results, policy.budget))
    del layer.data["context"]  # The unit does not send it.
    return _Twin(layer, np.stack(slots), np.stack(off))


def _compare(run: _Run, models: list[_Twin], head_dim: int, unit: "UnitConfig") -> Comparison:
    total = Comparison()
    for steps, model in zip(run.steps, models, strict=True):
        total += compare(observed([step.heads for step in steps]), model.layer.data)
        total += compare_placement(
            {
                "rows": np.array([step.n for step in steps]),
                "slots": np.stack([step.slots for step in steps]),
                "heads off": np.stack([step.off for step in steps]),
            },
            {"rows": model.layer.rows, "slots": model.slots, "heads off": model.off},
        )
    wanted = expected_counters([model.layer for model in models], head_dim // unit.lanes, unit.counter_bits)
    del wanted["JOBS"]  # Tokens that are only appended are jobs too.
    return total + compare_counters(run.counters, wanted, run.errors)


# Numbers --------------------------------------------------------------------------------------------------------------


def _numbers(stretch: Stretch, run: _Run, models: list[_Twin], policies, head_dim: int, unit: "UnitConfig") -> dict:
    """Of one context, per token."""
    tokens, beats = stretch.tokens, head_dim // unit.lanes
    data = [model.layer for model in models]
    runs = [~layer.data["masked"] for layer in data]
    keys = sum(int((on * layer.rows).sum()) for on, layer in zip(runs, data, strict=True))
    values = sum(int(layer.value_rows.sum()) for layer in data)
    weighting = sum(
        int((on * np.where(layer.data["softmax"], layer.rows, layer.data["active"])).sum())
        for on, layer in zip(runs, data, strict=True)
    )
    kept = sum(min(policy.budget, stretch.context) for policy in policies)
    work = Work(
        key_rows=keys,
        value_rows=values,
        score_reads=weighting,
        appended_rows=2 * unit.kv_heads * tokens * len(models),
        query_rows=unit.heads * tokens * len(models),
        result_rows=sum(int(on.sum()) for on in runs),
        head_dim=head_dim,
        beats=beats,
        store_bytes=2 * kept * unit.kv_heads * head_dim,
    )
    return {
        "context": stretch.context,
        "tokens": tokens,
        "cycles": run.cycles[stretch.context] / tokens,
        "key_rows": keys / tokens,
        "value_rows": values / tokens,
        "bytes": (keys + values) * head_dim / tokens,
        "busy": (keys + values) * beats / run.cycles[stretch.context],
        "fallbacks": sum(int(layer.data["fallback"].sum()) for layer in data) / tokens,
        "heads_off": sum(int(model.off.sum()) for model in models) / tokens,
        "store_bytes": work.store_bytes,
        "energy_pj": {name: round(value / tokens, 1) for name, value in energy_pj(work).items()},
    }
