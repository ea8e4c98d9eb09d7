"""Run a trace through the simulated system and the integer model's twin of its firmware, side by side."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reluctant.boards.errors import FullError
from reluctant.boards.host import Sequence, System
from reluctant.boards.results import StepResult
from reluctant.golden.errors import UserError
from reluctant.golden.trace import Trace
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig

from .compare import (
    Comparison,
    LayerData,
    compare,
    compare_counters,
    compare_placement,
    expected,
    expected_counters,
    observed,
)
from .report import Timing, cycle_budget, layer_report, ratio
from .runs import LayerRun
from .step_times import BeatTimes, CounterTimes
from .steps import Scenario, layer_settings

__all__ = ["SystemSimulator", "run_on", "run_system", "step_patience", "system_verilog"]

STALL_FACTOR = 20


def system_verilog(config: SystemConfig, image: bytes) -> str:
    """Verilog of the system with a firmware in its memory."""
    from reluctant.hdl.verilog import system_to_verilog

    return system_to_verilog(config, image)


def step_patience(config: UnitConfig, *, stalls: bool) -> int:
    """Cycles that several steps take at most, generously."""
    step = config.heads * (config.slots * (4 * config.sizes.beats + 8) + 8 * config.head_dim + 256) + 20_000
    return 8 * step * (STALL_FACTOR if stalls else 1)


@dataclass(frozen=True)
class SystemSimulator:
    """How to run the system: its Verilog, the tool, the seed of random stalls, and an FST file for waves."""

    verilog: str
    name: str = "verilator"
    stall_seed: int | None = None
    waves: Path | None = None

    def compile(self):
        """Build the simulation."""
        from reluctant.sim.build import compile_bench

        return compile_bench(
            self.verilog, top="sparse_attention_system", simulator=self.name, waves=self.waves is not None
        )

    def open(self, config: SystemConfig):
        """A transport to a fresh simulation."""
        from reluctant.sim.transport import SimulatedTransport

        patience = step_patience(config.unit, stalls=self.stall_seed is not None)
        options = {"stall_seed": self.stall_seed, "waves": self.waves, "patience": patience}
        return SimulatedTransport(self.compile(), config.unit.lanes, **options)


@dataclass(frozen=True)
class _Rows:
    """int8 tensors of a layer, heads first, and its flags (tokens,) bool."""

    q: object
    k: object
    v: object
    flags: object

    @classmethod
    def of(cls, trace: Trace, layer: int, tokens: int) -> "_Rows":
        import torch

        from reluctant.golden.eviction import default_flags

        q, k, v = (torch.from_numpy(array[layer, :, :tokens].copy()) for array in (trace.q, trace.k, trace.v))
        flags = default_flags(q) if trace.flags is None else torch.from_numpy(trace.flags[layer, :tokens].copy())
        return cls(q, k, v, flags)


@dataclass(frozen=True)
class _Answers:
    """What the system answered: ``steps`` and ``latencies`` by layer and token, those refused left out.

    ``cycles`` and ``latencies`` as in :mod:`reluctant.step_times`.
    """

    steps: list[list[StepResult]]
    refused: int
    cycles: list[int]
    latencies: list[list[int]]
    kept_at_end: list[np.ndarray]
    counters: dict[str, int]
    firmware: dict
    errors: tuple[str, ...]


def run_system(
    trace: Trace,
    scenario: Scenario,
    config: SystemConfig,
    simulator,
    progress: Callable[[], None] = lambda: None,
) -> tuple[list[LayerRun], dict]:
    """Run all layers in one sequence, token by token and layer by layer, and compare each with the integer model.

    ``simulator`` opens a transport; ``progress`` is called for each step sent. Returns the layers, and the numbers of
    the whole run for :func:`reluctant.report.build_report`.
    """
    with simulator.open(config) as transport, System(transport, config) as system:
        return run_on(system, trace, scenario, progress)


def run_on(
    system: System,
    trace: Trace,
    scenario: Scenario,
    progress: Callable[[], None] = lambda: None,
    times: type[BeatTimes] | type[CounterTimes] = BeatTimes,
) -> tuple[list[LayerRun], dict]:
    """:func:`run_system` on a system that is there already: as its sequence 0, which stays open."""
    config = system.config
    settings = [layer_settings(trace, layer, scenario) for layer in scenario.layers]
    rows = [_Rows.of(trace, layer, scenario.tokens) for layer in scenario.layers]
    for number, item in enumerate(settings):
        system.configure_layer(number, item, emit_context=True)
    sequence = system.open_sequence(0, scenario.policy, len(settings), scenario.gating)
    answers = _drive(system, sequence, rows, scenario.tokens, progress, times)
    runs, models, kept = [], [], Comparison()
    for number, layer in enumerate(scenario.layers):
        golden = _model(settings[number], rows[number], number, scenario, config.unit)
        run, model, part = _layer_run(layer, number, answers, golden, trace.head_dim, scenario, config.unit)
        runs.append(run)
        models.append(model)
        kept += part
    wanted = expected_counters(models, trace.head_dim // config.unit.lanes, config.unit.counter_bits)
    whole = compare_counters(answers.counters, wanted, answers.errors)
    cycles = sum(run.report["cycles"] for run in runs)
    return runs, {
        "mismatches": whole.mismatches,
        "mismatch_examples": list(whole.examples),
        "kept_mismatches": kept.mismatches,
        "evictions": sum(run.report["evictions"] for run in runs),
        "refused_steps": answers.refused,
        "heads_off": sum(run.report["heads_off"] for run in runs),
        "cycle_budget": cycle_budget(answers.counters, cycles),
        "counters": answers.counters,
        "firmware": answers.firmware,
    }


# The system -----------------------------------------------------------------------------------------------------------


def _drive(system: System, sequence: Sequence, rows: list[_Rows], tokens: int, progress, times) -> _Answers:
    """Send every step, then take the results."""
    layers = len(rows)
    before_core, before = system.counters(clear=True), system.cycles()
    clock = times(system, layers)
    steps, refused = [[] for _ in rows], 0
    for batch in clock.batches(tokens):
        tickets = []
        for number, token in batch:
            layer = rows[number]
            parts = [array[:, token].numpy() for array in (layer.k, layer.v, layer.q)]
            tickets.append(sequence.submit_step(number, *parts, flag=bool(layer.flags[token])))
            progress()
        for index, ((number, _), ticket) in enumerate(zip(batch, tickets, strict=True)):
            try:
                steps[number].append(system.wait(ticket))
            except FullError:
                refused += 1
                continue
            clock.answered(number, index)
        clock.end_batch(batch[-1][0])
    after, after_core = system.cycles(), system.counters()
    spent = {name: (after[name] - before[name]) % (1 << system.config.unit.counter_bits) for name in after}
    done = sum(map(len, steps))
    return _Answers(
        steps=steps,
        refused=refused,
        cycles=clock.cycles,
        latencies=clock.latencies,
        kept_at_end=[_positions(sequence, number, system.config.unit.kv_heads) for number in range(layers)],
        counters={name: value for name, value in after_core.items() if name not in ("mcycle", "minstret")},
        firmware=_firmware(spent, after_core["minstret"] - before_core["minstret"], done),
        errors=system.errors(),
    )


def _positions(sequence: Sequence, layer: int, kv_heads: int) -> np.ndarray:
    """(kv_heads, budget) int32: positions that the unit itself keeps in a layer's slots, -1 beyond its rows."""
    kept = np.full((kv_heads, sequence.policy.budget), -1, np.int32)
    for kv_head in range(kv_heads):
        position = sequence.slots(layer, kv_head).position
        kept[kv_head, : len(position)] = position
    return kept


def _firmware(spent: dict[str, int], instructions: int, steps: int) -> dict:
    active, exposed = spent["ACTIVE_CYCLES"], spent["EXPOSED_CYCLES"]
    return {
        "active_cycles": active,
        "exposed_cycles": exposed,
        "hidden": ratio(active - exposed, active),
        "instructions": instructions,
        "cycles_per_instruction": ratio(active, instructions),
        "cycles_per_step": ratio(active, steps),
    }


# The comparison -------------------------------------------------------------------------------------------------------


def _model(settings, rows: _Rows, number: int, scenario: Scenario, unit: UnitConfig):
    from reluctant.golden.eviction import run_policy

    return run_policy(
        settings,
        scenario.policy,
        rows.q,
        rows.k,
        rows.v,
        layer=number,
        flags=rows.flags,
        gating=scenario.gating,
        mass_bits=unit.mass_bits,
    )


def _layer_run(layer: int, number: int, answers: _Answers, golden, head_dim: int, scenario: Scenario, unit: UnitConfig):
    """(LayerRun, ModelLayer, comparison of kept rows) of one layer."""
    steps, model = answers.steps[number], expected(golden.attention)
    if not steps:
        raise UserError(f"layer {layer}: every step was refused: a larger --budget is needed")
    done = min(len(steps), len(model.rows))
    placement = _placement(steps, scenario.policy.budget)
    unit_data = observed([step.heads for step in steps])
    comparison = compare(_first(unit_data, done), _first(model.data, done))
    comparison += compare_placement(
        {name: array[:done] for name, array in placement.items() if name not in ("kept", "evicted")},
        {
            "rows": model.rows[:done],
            "position": np.arange(done),
            "slots": golden.slots.numpy()[:done],
            "heads off": golden.off.numpy()[:done],
        },
    )
    kept = compare_placement({"kept": placement["kept"][:done]}, {"kept": golden.kept.numpy()[:done]})
    kept += compare_placement(
        {"kept at the end": placement["kept"][-1:]}, {"kept at the end": answers.kept_at_end[number][None]}
    )
    comparison += kept
    if len(steps) != len(model.rows):
        examples = (f"{len(steps)} steps were taken: the model takes {len(model.rows)}",)
        comparison += Comparison(abs(len(steps) - len(model.rows)), examples)
    timing = Timing(answers.cycles[number], answers.latencies[number])
    report = layer_report(layer, unit, head_dim, model, comparison, timing)
    report |= {
        "evictions": int(placement["evicted"]),
        "kept_mismatches": kept.mismatches,
        "heads_off": int(placement["heads off"].sum()),
    }
    unit_data["kept"] = placement["kept"].transpose(1, 0, 2)
    return LayerRun(report, unit_data), model, kept


def _first(data: LayerData, tokens: int) -> LayerData:
    return {name: array[:, :tokens] for name, array in data.items()}


def _placement(steps: Iterable[StepResult], budget: int) -> dict:
    """Where tokens went, as the replies say, by token; ``kept`` (tokens, kv_heads, budget) follows from the slots."""
    steps = list(steps)
    heads = np.arange(len(steps[0].slots))
    held = np.full((len(heads), budget), -1, np.int32)
    kept, evicted = [], 0
    for step in steps:
        evicted += int((held[heads, step.slots] >= 0).sum())
        held[heads, step.slots] = step.position
        kept.append(held.copy())
    return {
        "rows": np.array([step.n for step in steps]),
        "position": np.array([step.position for step in steps]),
        "slots": np.stack([step.slots for step in steps]),
        "heads off": np.stack([step.off for step in steps]),
        "kept": np.stack(kept),
        "evicted": evicted,
    }
