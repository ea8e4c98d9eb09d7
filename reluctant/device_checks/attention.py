"""Golden vectors: every mode, normaliser and mask, every KV policy, gating, many tokens at once, counters."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from reluctant.choices import ModeName, NormaliserName
from reluctant.compare import compare, compare_placement, expected, observed
from reluctant.golden.eviction import run_policy
from reluctant.golden.gating import GatingSettings
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.trace import Trace
from reluctant.hdl.system_config import SystemConfig
from reluctant.steps import Scenario, layer_settings

from .check import Bench, Check, require
from .workloads import draw_trace

__all__ = ["attention_checks", "default_normaliser", "lacks_mode", "lacks_normaliser", "room"]

TOKENS = 8
BUDGET = 8
FEW = 6
"""Rows that leave no room for the default sinks and a recent window."""
GATED_ACTIVE, PROBE = 3, 3
"""Gating of the checks: about half of the rows are active, so heads hover around this."""


def attention_checks() -> Iterator[Check]:
    """All of this module."""
    for mode in ModeName:
        for normaliser in NormaliserName:
            for masked in (False, True):
                name = f"modes/{mode}-{normaliser}{'-masked' if masked else ''}"
                run = partial(_mode, mode=mode, normaliser=normaliser, masked=masked)
                yield Check(name, run, partial(_lacks, mode=mode, normaliser=normaliser, masked=masked))
    yield Check("modes/short-rows", _short_rows, _lacks_short_rows)
    for policy in Policy:
        yield Check(f"policies/{policy.label}", partial(_policy, policy=policy))
    yield Check("policies/h2o-normalised", partial(_policy, policy=Policy.H2O, normalised=True), _lacks_rate)
    yield Check(
        "gating/active", partial(_gating, gating=GatingSettings(active=GATED_ACTIVE, probe=PROBE)), _lacks_gating
    )
    yield Check("gating/mass", partial(_gating, gating=None), _lacks_gating)
    yield Check("prefill/appended-then-attended", _prefill)
    yield Check("prefill/flagged", _flagged_prefill)
    yield Check("counters/work-and-cycles", _counters, _lacks_counters)


# What a build lacks ---------------------------------------------------------------------------------------------------


def _lacks_rate(config: SystemConfig) -> str | None:
    """Why the build cannot evict by mass per step of life."""
    return "built without the metric rate" if config.unit.phases == "serial" else None


def _lacks_gating(config: SystemConfig) -> str | None:
    """Why the build cannot gate heads."""
    return None if config.unit.head_log else "built without a log of heads"


def _lacks_counters(config: SystemConfig) -> str | None:
    """Why the build counts nothing."""
    return None if config.unit.counter_bits else "built without counters"


def lacks_mode(config: SystemConfig, mode: ModeName) -> str | None:
    """Why the build cannot run a mode."""
    return None if mode is ModeName.RELU or config.unit.softmax else "built without softmax"


def lacks_normaliser(config: SystemConfig, normaliser: NormaliserName) -> str | None:
    """Why the build cannot run a normaliser."""
    built = normaliser is NormaliserName.NONE or normaliser.setting in config.unit.normalisers
    return None if built else f"built without the normaliser {normaliser}"


def _lacks(config: SystemConfig, *, mode: ModeName, normaliser: NormaliserName, masked: bool) -> str | None:
    one = "it has one head, which must run" if masked and config.unit.heads == 1 else None
    return lacks_mode(config, mode) or lacks_normaliser(config, normaliser) or one


def _lacks_short_rows(config: SystemConfig) -> str | None:
    return "a row is one beat already" if config.unit.head_dim == config.unit.lanes else None


def room(config: SystemConfig, wanted: int) -> tuple[int, int]:
    """(layers, budget of each): two layers where there are settings for two."""
    layers = min(2, config.layers, config.unit.slots)
    return layers, min(wanted, config.unit.slots // layers)


# Golden vectors -------------------------------------------------------------------------------------------------------


def default_normaliser(config: SystemConfig) -> NormaliserName:
    """One that the build has, the first where there are several."""
    return next((name for name in NormaliserName if name.setting in config.unit.normalisers), NormaliserName.NONE)


def _scenario(bench: Bench, *, layers: int, tokens: int, **choices) -> Scenario:
    policy = choices.pop("policy", None) or PolicySettings.create(Policy.REFUSE, tokens)
    choices = {"gating": GatingSettings(), "normaliser": default_normaliser(bench.config), **choices}
    return Scenario(layers=tuple(range(layers)), tokens=tokens, policy=policy, **choices)


def _mode(bench: Bench, *, mode: ModeName, normaliser: NormaliserName, masked: bool) -> None:
    layers, tokens = room(bench.config, TOKENS)
    random = bench.random("mode", mode, normaliser)
    trace = draw_trace(bench.unit, random, layers=layers, tokens=tokens, sinks=normaliser is NormaliserName.SUM)
    mask = tuple(head for head in range(bench.unit.heads) if head % 3 == 1) if masked else ()
    choices = {"mode": mode, "normaliser": normaliser, "mask": mask}
    if mode is ModeName.HYBRID:
        choices["min_active"] = max(1, tokens // 3)
    report = bench.run(trace, _scenario(bench, layers=layers, tokens=tokens, **choices))
    require(report["masked_heads"] == layers * tokens * len(mask), "the mask masked other heads than it names")


def _short_rows(bench: Bench) -> None:
    """Rows shorter than the build's longest."""
    layers, tokens = room(bench.config, TOKENS)
    trace = draw_trace(
        bench.unit, bench.random("short"), layers=layers, tokens=tokens, head_dim=bench.unit.head_dim - bench.unit.lanes
    )
    bench.run(trace, _scenario(bench, layers=layers, tokens=tokens))


def _settings(policy: Policy, budget: int, **numbers) -> PolicySettings:
    """The policy with its defaults, or with fewer sinks where the budget is small."""
    if budget < FEW and policy in (Policy.STREAMING, Policy.BUZZ, Policy.NACL):
        numbers["sinks"] = 0
    return PolicySettings.create(policy, budget, **numbers)


def _policy(bench: Bench, *, policy: Policy, **numbers) -> None:
    """Kept positions at every step, which rows left, and what the unit itself says of its slots at the end."""
    layers, budget = room(bench.config, BUDGET)
    tokens = 3 * budget
    trace = draw_trace(bench.unit, bench.random("policy", policy.label), layers=layers, tokens=tokens)
    settings = _settings(policy, budget, **numbers)
    report = bench.run(trace, _scenario(bench, layers=layers, tokens=tokens, policy=settings))
    if policy is Policy.REFUSE:
        refused = layers * (tokens - budget)
        require(report["refused_steps"] == refused, f"{report['refused_steps']} steps were refused, not {refused}")
    else:
        require(report["evictions"] > 0, "nothing was evicted")


def _gating(bench: Bench, *, gating: GatingSettings | None) -> None:
    """Heads are turned off by their averages, and run again; by mass where no settings are given."""
    layers, budget = room(bench.config, BUDGET)
    tokens = 3 * budget
    trace = draw_trace(bench.unit, bench.random("gating"), layers=layers, tokens=tokens)
    if gating is None:
        gating = GatingSettings(mass=_usual_mass(trace, budget), probe=PROBE)
    policy = _settings(Policy.STREAMING, budget)
    report = bench.run(trace, _scenario(bench, layers=layers, tokens=tokens, policy=policy, gating=gating))
    require(report["heads_off"] > 0, "no head was turned off")


def _usual_mass(trace: Trace, rows: int) -> int:
    """Mass of a query that half of so many rows answer to, each with the usual score."""
    spread = float(np.abs(trace.k.astype(float)).mean() * np.abs(trace.q.astype(float)).mean())
    return int(min(rows / 2 * spread * np.sqrt(trace.head_dim), 2**31 - 1))


# Many tokens at once --------------------------------------------------------------------------------------------------


def _prefill(bench: Bench) -> None:
    """Half of the tokens are only appended, in one command; the others attend, in another."""
    budget = room(bench.config, BUDGET)[1]
    tokens, half = 2 * budget, budget
    trace = draw_trace(bench.unit, bench.random("prefill"), layers=1, tokens=tokens)
    policy = _settings(Policy.STREAMING, budget)
    sequence, run = _twin(bench, trace, policy, None)
    q, k, v = (array[0] for array in (trace.q, trace.k, trace.v))
    require(not sequence.prefill(0, k[:, :half], v[:, :half]).answers, "tokens that were only appended had answers")
    result = sequence.prefill(0, k[:, half:], v[:, half:], q[:, half:])
    _check_answers(result, run, half, tokens)


def _flagged_prefill(bench: Bench) -> None:
    """Flagged tokens leave early, also where many tokens come in one command."""
    budget = room(bench.config, BUDGET)[1]
    trace = draw_trace(bench.unit, bench.random("flagged"), layers=1, tokens=2 * budget)
    sequence, run = _twin(bench, trace, _settings(Policy.DMS, budget), trace.flags[0])
    result = sequence.prefill(0, trace.k[0], trace.v[0], trace.q[0], flags=trace.flags[0])
    _check_answers(result, run, 0, trace.tokens)


def _twin(bench: Bench, trace: Trace, policy: PolicySettings, flags):
    """(open sequence on the device, the integer model's run) of a trace's layer 0."""
    settings = layer_settings(trace, 0, _scenario(bench, layers=1, tokens=trace.tokens, policy=policy))
    bench.system.configure_layer(0, settings, emit_context=True)
    rows = (torch.from_numpy(array[0]) for array in (trace.q, trace.k, trace.v))
    flags = None if flags is None else torch.from_numpy(flags)
    run = run_policy(settings, policy, *rows, flags=flags, mass_bits=bench.unit.mass_bits)
    return bench.system.open_sequence(0, policy, 1), run


def _check_answers(result, run, first: int, tokens: int) -> None:
    """Answers to the tokens from ``first`` on, and where the last one went."""
    require(len(result.answers) == tokens - first, f"{len(result.answers)} answers came for {tokens - first} tokens")
    model = {name: array[:, first:] for name, array in expected(run.attention).data.items()}
    comparison = compare(observed(result.answers), model)
    comparison += compare_placement(
        {"rows": np.array([result.n]), "position": np.array([result.position]), "slots": result.slots[None]},
        {
            "rows": run.attention.rows[-1:].numpy(),
            "position": np.array([tokens - 1]),
            "slots": run.slots[-1:].numpy(),
        },
    )
    require(not comparison.mismatches, f"{comparison.mismatches} mismatches: {'; '.join(comparison.examples)}")


# Counters -------------------------------------------------------------------------------------------------------------


def _counters(bench: Bench) -> None:
    """Each work counter counts something and equals the model's; cycles add up; clearing clears."""
    unit = bench.unit
    layers, tokens = room(bench.config, TOKENS)
    trace = draw_trace(unit, bench.random("counters"), layers=layers, tokens=tokens)
    q = trace.q.copy()
    q[:, :, -1] = 0  # and a threshold of 0: heads without an active row
    trace = Trace(q, trace.k, trace.v, score_scale=trace.score_scale, gain=trace.gain)
    mode = ModeName.HYBRID if unit.softmax else ModeName.RELU
    mask = (1,) if unit.heads > 1 else ()
    choices = {"mode": mode, "mask": mask, "min_active": tokens // 2 if unit.softmax else 0}
    earlier = bench.system.cycles()
    report = bench.run(trace, _scenario(bench, layers=layers, tokens=tokens, **choices))
    counters, later = report["counters"], bench.system.cycles()
    silent = {"FALLBACKS", "SOFTMAX_HEADS"} if not unit.softmax else {"NULL_HEADS"}
    silent |= set() if mask else {"MASKED_HEADS"}
    work = ("KEY_BEATS", "VALUE_BEATS", "KEY_ROWS", "VALUE_ROWS", "MASKED_HEADS", "NULL_HEADS", "FALLBACKS")
    for name in (*work, "SOFTMAX_HEADS", "JOBS", "BUSY_CYCLES"):
        require(counters[name] > 0 or name in silent, f"counter {name} stayed 0")
    parts = sum(counters[name] for name in ("KEY_BEATS", "VALUE_BEATS", "PIPELINE_WAIT_CYCLES"))
    require(parts <= counters["BUSY_CYCLES"], f"beats and pipeline waits are {parts} of BUSY_CYCLES {counters}")
    spent = {name: (later[name] - earlier[name]) % (1 << unit.counter_bits) for name in later}
    for name in ("UNIT_CYCLES", "ACTIVE_CYCLES", "EXPOSED_CYCLES"):
        require(0 < spent[name] <= spent["CYCLES"], f"{name} counted {spent[name]} in {spent['CYCLES']} cycles")
    bench.system.counters(clear=True)
    left = {name: value for name, value in bench.system.counters().items() if name not in ("mcycle", "minstret")}
    require(not any(left.values()), f"after clearing, counters are {left}")
