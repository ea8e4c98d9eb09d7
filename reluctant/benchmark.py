"""What the scheduler costs: ``python -m reluctant.benchmark`` runs the same steps on a system and on a bare unit.

The store is full, so that each step also evicts a row: the firmware plans it, tells the unit, looks at the result and
replies, while the unit works on other steps. Overhead is the share of the system's cycles that the bare unit, driven
by a host without delay, does not need. BUZZ and NACL evict other rows than the bare unit, which always takes those
that the policy's metric names over the whole store, so for them it can be a little below zero.

``--clocks 2,1`` gives the unit a clock of its own, here of half the period; cycles are then those of the unit's clock,
but for the firmware's.
"""

import argparse
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from reluctant.boards.host import System
from reluctant.firmware.build import build
from reluctant.golden.formats import Metric, Normaliser
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.settings import LayerSettings
from reluctant.golden.trace import Trace, load_trace
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig
from reluctant.hdl.verilog import system_to_verilog
from reluctant.sim.benchmark import HEADS, repeated_rows
from reluctant.sim.build import compile_bench
from reluctant.sim.clocks import Clocks
from reluctant.sim.program import Job, Program, Step, WaitIdle, Write
from reluctant.sim.run import simulate
from reluctant.sim.transport import SimulatedTransport

__all__ = ["BOUNDS", "Overhead", "measure"]

ROWS = 256
HEAD_DIM = 64
WARM_UP, STEPS = 4, 24
"""Steps before the measured ones, at the full store; measured steps."""
BOUNDS = {16: 0.03, 64: 0.10}
"""Lanes to the greatest overhead allowed."""
POLICIES = (Policy.STREAMING, Policy.H2O, Policy.BUZZ, Policy.NACL)


@dataclass(frozen=True)
class Overhead:
    """Cycles of the measured steps, of the unit's clock.

    ``instructions`` and ``active`` are the core's over all steps, the warm-up and the filling of the store left out.
    """

    lanes: int
    policy: PolicySettings
    system: float
    unit: int
    active: int
    instructions: int

    @property
    def share(self) -> float:
        """Cycles that the unit alone does not need, of the system's."""
        return 1 - self.unit / self.system

    @property
    def met(self) -> bool:
        """Whether the bound holds."""
        return self.share <= BOUNDS[self.lanes]


def _layer(trace: Trace) -> tuple[LayerSettings, tuple[np.ndarray, ...]]:
    """Settings, and (k, v, q) of layer 1, (heads, tokens, head_dim), enough for filling and steps."""
    tokens = ROWS + WARM_UP + STEPS
    shared = trace.heads // trace.kv_heads
    keys, values = (np.repeat(rows[1], shared, axis=0) for rows in (trace.k, trace.v))
    arrays = tuple(repeated_rows(rows, HEADS, tokens, HEAD_DIM) for rows in (keys, values, trace.q[1]))
    return LayerSettings.create(HEADS, HEAD_DIM, normaliser=Normaliser.RMS_HEAD), arrays


def _system(
    config: SystemConfig, policy: PolicySettings, settings: LayerSettings, arrays, clocks: Clocks | None
) -> tuple[int, int, int]:
    """(cycles of the measured steps, active cycles of the core and its instructions per measured step)."""
    firmware = build(config)
    bench = compile_bench(system_to_verilog(config, firmware.image), top="sparse_attention_system")
    keys, values, queries = arrays
    with SimulatedTransport(bench, config.unit.lanes, clocks=clocks) as transport, System(transport, config) as system:
        system.configure_layer(0, settings)
        sequence = system.open_sequence(0, policy, 1)
        sequence.prefill(0, keys[:, :ROWS], values[:, :ROWS])
        core, before = system.counters(), system.cycles()
        rows = range(ROWS, ROWS + WARM_UP + STEPS)
        tickets = [sequence.submit_step(0, keys[:, t], values[:, t], queries[:, t]) for t in rows]
        for ticket in tickets:
            system.wait(ticket)
        active = system.cycles()["ACTIVE_CYCLES"] - before["ACTIVE_CYCLES"]
        instructions = system.counters()["minstret"] - core["minstret"]
        ends = [last for _, last in transport.answered]
    return ends[-1] - ends[WARM_UP - 1], active, instructions


def _unit(config: UnitConfig, policy: PolicySettings, settings: LayerSettings, arrays) -> int:
    """Cycles of the measured steps on the bare unit: with them less without them."""
    keys, values, queries = arrays
    common = {"head_dim": HEAD_DIM, "normaliser": Normaliser.RMS_HEAD}
    metric = Metric.POSITION if policy.policy is Policy.STREAMING else Metric.MASS
    evict = {"evict": True, "n": ROWS, "sinks": policy.sinks, "recent": policy.recent, "metric": metric}
    fill = [
        Step(Job(n=t + 1, slot=t, position=t, attend=False, **common), keys[:, t], values[:, t]) for t in range(ROWS)
    ]
    steps = [
        Step(Job(position=t, **evict, **common), keys[:, t], values[:, t], queries[:, t])
        for t in range(ROWS, ROWS + WARM_UP + STEPS)
    ]
    clear = [WaitIdle(), Write(register="COUNTERS_CLEAR", word=1)]

    def busy(count: int) -> int:
        program = Program.from_layers([*fill, *clear, *steps[:count]], {0: settings})
        return simulate(config, program).counters["BUSY_CYCLES"]

    return busy(WARM_UP + STEPS) - busy(WARM_UP)


def measure(trace: Trace, lanes: int, policy: Policy, clocks: Clocks | None = None) -> Overhead:
    """Run a policy at the given lanes: 8 heads, d = 64, n = 256, the store full; with clocks, on two."""
    unit = UnitConfig(lanes=lanes, head_dim=HEAD_DIM, slots=ROWS, heads=HEADS, kv_heads=HEADS)
    config = SystemConfig(unit=unit, unit_clock="own" if clocks else "shared")
    half, unit_half, _ = clocks or Clocks()
    chosen = PolicySettings.create(policy, ROWS)
    settings, arrays = _layer(trace)
    system, active, instructions = _system(config, chosen, settings, arrays, clocks)
    return Overhead(
        lanes, chosen, system * half / unit_half, _unit(unit, chosen, settings, arrays), active, instructions
    )


def _print(measurements: list[Overhead]) -> bool:
    table = Table(title=f"Scheduler: {HEADS} heads, d = {HEAD_DIM}, n = {ROWS}, {STEPS} steps, each evicts a row")
    for heading in ("policy", "P", "unit", "system", "overhead", "bound", "", "firmware a step", "CPI"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for item in measurements:
        steps = WARM_UP + STEPS
        table.add_row(
            item.policy.policy.label,
            str(item.lanes),
            f"{item.unit / STEPS:,.0f}",
            f"{item.system / STEPS:,.0f}",
            f"{item.share:.2%}",
            f"{BOUNDS[item.lanes]:.0%}",
            "ok" if item.met else "missed",
            f"{item.active / steps:,.0f}",
            f"{item.active / item.instructions:.2f}",
        )
    Console().print(table)
    return all(item.met for item in measurements)


def _clocks(text: str) -> Clocks:
    return Clocks(*map(int, text.split(","))).check()


def main() -> int:
    """Measure and print; exit code 1 if a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m reluctant.benchmark", description=__doc__)
    parser.add_argument("--trace", type=Path, help="trace to take rows from (the bundled one)")
    parser.add_argument("--clocks", type=_clocks, help="half periods of clk and of the unit's own clock, as 2,1")
    arguments = parser.parse_args()
    clocks = arguments.clocks
    trace = load_trace(arguments.trace or Path(str(files("reluctant") / "data" / "demo.npz")))
    return 0 if _print([measure(trace, lanes, policy, clocks) for lanes in BOUNDS for policy in POLICIES]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
