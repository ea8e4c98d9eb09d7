"""What a step costs on a board: its system's own Verilog runs steps at a full store, beside a model of energy."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from reluctant.boards.host import System
from reluctant.firmware.build import build
from reluctant.golden.formats import Normaliser
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.settings import LayerSettings
from reluctant.golden.trace import load_trace
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
    bench = compile_bench(system_to_verilog(config, build(config).image), top="sparse_attention_system")
    with SimulatedTransport(bench, unit.lanes, clocks=clocks) as transport, System(transport, config) as system:
        system.configure_layer(0, LayerSettings.create(unit.heads, unit.head_dim, normaliser=normaliser))
        sequence = system.open_sequence(0, PolicySettings.create(Policy.STREAMING, rows), 1)
        sequence.prefill(0, keys[:, :rows], values[:, :rows])
        system.counters(clear=True)
        tickets = [
            sequence.submit_step(0, keys[:, token], values[:, token], queries[:, token])
            for token in range(rows, tokens)
        ]
        active = [int(np.sum(system.wait(ticket).heads.active)) for ticket in tickets]
        counters = system.counters()
        ends = [last for _, last in transport.answered]
    beats = unit.head_dim // unit.lanes
    run = WARM_UP + STEPS
    # A unit without counters has read all rows, and the values of those that are active (or a few less).
    key_rows, value_rows = unit.heads * rows * run, sum(active)
    work = Work(
        key_rows=counters["KEY_BEATS"] // beats if unit.counter_bits else key_rows,
        value_rows=counters["VALUE_BEATS"] // beats if unit.counter_bits else value_rows,
        score_reads=sum(active),
        appended_rows=2 * unit.kv_heads * run,
        query_rows=unit.heads * run,
        result_rows=unit.heads * run if normaliser is not Normaliser.NONE else 0,
        head_dim=unit.head_dim,
        beats=beats,
        store_bytes=2 * unit.sizes.rows * unit.head_dim,
    )
    return StepCost(rows, (ends[-1] - ends[WARM_UP - 1]) / STEPS, energy_pj(work)["total"] / run)
