"""What a step costs on a board: its system's own Verilog runs steps at a full store, beside a model of energy."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch

from reluctant.boards.host import System
from reluctant.firmware.build import build
from reluctant.golden.eviction import run_policy
from reluctant.golden.formats import Normaliser
from reluctant.golden.integer import AttentionResult
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.settings import LayerSettings
from reluctant.golden.trace import load_trace
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig
from reluctant.hdl.verilog import system_to_verilog
from reluctant.sim.benchmark import repeated_rows
from reluctant.sim.build import compile_bench
from reluctant.sim.clocks import Clocks
from reluctant.sim.transport import SimulatedTransport

from .energy import Work, energy_pj

__all__ = ["StepCost", "step_cost"]

ROWS = 256
WARM_UP, STEPS = 2, 8
"""Steps before the measured ones, at the full store; measured steps."""


@dataclass(frozen=True)
class StepCost:
    """Means of steps that each attend to ``rows`` rows; cycles of ``clk`` from the end of one answer to the next's."""

    rows: int
    cycles: float
    energy_pj: float


def step_cost(config: SystemConfig, clocks: Clocks | None = None) -> StepCost:
    """Run the bundled trace's rows, repeated to the system's sizes, with policy ``streaming`` and ReLU.

    ``clocks`` are those of a system whose unit has a clock of its own.
    """
    unit = config.unit
    rows = min(ROWS, unit.slots)
    trace = load_trace(Path(str(files("reluctant") / "data" / "demo.npz")))
    tokens = rows + WARM_UP + STEPS
    keys, values = (repeated_rows(part[1], unit.kv_heads, tokens, unit.head_dim) for part in (trace.k, trace.v))
    queries = repeated_rows(trace.q[1], unit.heads, tokens, unit.head_dim)
    normaliser = Normaliser.RMS_HEAD if "rms_head" in unit.normalisers else Normaliser.NONE
    settings = LayerSettings.create(unit.heads, unit.head_dim, kv_heads=unit.kv_heads, normaliser=normaliser)
    policy = PolicySettings.create(Policy.STREAMING, rows)
    bench = compile_bench(system_to_verilog(config, build(config).image), top="sparse_attention_system")
    with SimulatedTransport(bench, unit.lanes, clocks=clocks) as transport, System(transport, config) as system:
        system.configure_layer(0, settings)
        sequence = system.open_sequence(0, policy, 1)
        sequence.prefill(0, keys[:, :rows], values[:, :rows])
        tickets = [
            sequence.submit_step(0, keys[:, token], values[:, token], queries[:, token])
            for token in range(rows, tokens)
        ]
        for ticket in tickets:
            system.wait(ticket)
        ends = [last for _, last in transport.answered]
    arrays = (torch.from_numpy(part) for part in (queries, keys, values))
    work = _work(unit, run_policy(settings, policy, *arrays).attention)
    return StepCost(rows, (ends[-1] - ends[WARM_UP - 1]) / STEPS, energy_pj(work)["total"] / STEPS)


def _work(unit: UnitConfig, result: AttentionResult) -> Work:
    """Of the last steps, by the integer model: not every unit counts its rows."""
    last = slice(-STEPS, None)
    return Work(
        key_rows=unit.heads * int(result.rows[last].sum()),
        value_rows=int(result.value_rows[:, last].sum()),
        score_reads=int(result.active[:, last].sum()),
        appended_rows=2 * unit.kv_heads * STEPS,
        query_rows=unit.heads * STEPS,
        result_rows=0 if result.output is None else unit.heads * STEPS,
        head_dim=unit.head_dim,
        beats=unit.head_dim // unit.lanes,
        store_bytes=2 * unit.sizes.rows * unit.head_dim,
    )
