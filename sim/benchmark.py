"""How busy the array is, how soon a step answers, how fast the simulation runs: ``python -m reluctant.sim.benchmark``.

Rows and queries are a trace's own, repeated: along the head dimension (which doubles every score and so keeps every
sign and every zero weight), along the heads and along the rows. So a step has the trace's sparsity at any size.
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from reluctant.golden.formats import Mode, Normaliser
from reluctant.golden.settings import LayerSettings
from reluctant.golden.trace import Trace, load_trace
from reluctant.hdl.config import UnitConfig

from .program import Job, Program, Step, WaitIdle, Write
from .run import simulate

__all__ = ["CASES", "HEADS", "Case", "Measurement", "measure", "repeated_rows"]

HEADS = 8
STEPS = 16


@dataclass(frozen=True, kw_only=True)
class Case:
    """Steps of one shape, and the least utilisation that they must reach (``None``: only printed)."""

    lanes: int
    n: int
    mode: Mode = Mode.RELU
    fallback: bool = False
    bound: float | None = None

    @property
    def name(self) -> str:
        """Mode as people say it."""
        return "fallback" if self.fallback else self.mode.name.lower()


CASES = (
    Case(lanes=16, n=64, bound=0.90),
    Case(lanes=16, n=256, bound=0.97),
    Case(lanes=16, n=1024, bound=0.99),
    Case(lanes=64, n=64, bound=0.90),
    Case(lanes=64, n=256, bound=0.95),
    Case(lanes=64, n=1024, bound=0.98),
    *(
        Case(lanes=lanes, n=n, mode=mode, fallback=mode is Mode.HYBRID, bound=0.95)
        for lanes in (16, 64)
        for n in (256, 1024)
        for mode in (Mode.SOFTMAX, Mode.HYBRID)
    ),
)


@dataclass(frozen=True)
class Measurement:
    """Counted cycles of a case, over all layers of the trace."""

    case: Case
    beats: int
    cycles: int
    simulated: int
    seconds: float

    @property
    def utilisation(self) -> float:
        """Roofline cycles (beats of keys and of values with non-zero weight) over cycles."""
        return self.beats / self.cycles

    @property
    def met(self) -> bool:
        """Whether the bound holds."""
        return self.case.bound is None or self.utilisation >= self.case.bound


def repeated_rows(array: np.ndarray, heads: int, rows: int, head_dim: int) -> np.ndarray:
    """A layer's rows (heads, tokens, d), repeated to the shape wanted; the last token stays last."""
    repeats = [-(-size // have) for size, have in zip((heads, rows, head_dim), array.shape, strict=True)]
    return np.tile(array, repeats)[:heads, -rows:, :head_dim]


def _program(trace: Trace, layer: int, case: Case, head_dim: int) -> Program:
    """Fill the store with n - 1 rows, clear the counters, then STEPS steps that all attend to n rows."""
    shared = trace.q.shape[1] // trace.k.shape[1]  # each head gets a copy of the KV head that it shares
    keys, values = (
        repeated_rows(np.repeat(rows[layer], shared, axis=0), HEADS, case.n, head_dim) for rows in (trace.k, trace.v)
    )
    queries = repeated_rows(trace.q[layer], HEADS, max(STEPS, case.n), head_dim)
    repeats = head_dim / trace.q.shape[-1]
    scale = [float(value) / repeats for value in trace.score_scale[layer]]
    settings = LayerSettings.create(
        HEADS,
        head_dim,
        mode=case.mode,
        min_active=case.n if case.fallback else 0,
        score_scale=(scale * HEADS)[:HEADS],
        normaliser=Normaliser.RMS_HEAD,
    )
    fill = [
        Step(Job(n=1, head_dim=head_dim, slot=row, position=row, attend=False), keys[:, row], values[:, row])
        for row in range(case.n - 1)
    ]
    job = Job(n=case.n, head_dim=head_dim, slot=case.n - 1, position=case.n - 1, normaliser=Normaliser.RMS_HEAD)
    steps = [Step(job, keys[:, -1], values[:, -1], queries[:, index - STEPS]) for index in range(STEPS)]
    clear = [WaitIdle(), Write(register="COUNTERS_CLEAR", word=1)]
    return Program.from_layers([*fill, *clear, *steps], {0: settings})


def measure(trace: Trace, case: Case, head_dim: int = 64) -> Measurement:
    """Run a case for every layer of ``trace``."""
    config = UnitConfig(lanes=case.lanes, head_dim=head_dim, slots=1024, heads=HEADS, kv_heads=HEADS)
    beats = cycles = simulated = 0
    seconds = 0.0
    for layer in range(len(trace.q)):
        program = _program(trace, layer, case, head_dim)
        started = time.perf_counter()
        results = simulate(config, program)
        seconds += time.perf_counter() - started
        counters = results.counters
        beats += counters["KEY_BEATS"] + counters["VALUE_BEATS"]
        cycles += counters["BUSY_CYCLES"]
        simulated += results.total_cycles
    return Measurement(case, beats, cycles, simulated, seconds)


def smallest_step() -> dict[str, int]:
    """Cycles from the last input beat to the first output beat of one head, d = 32, P = 32, n = 2, by normaliser."""
    config = UnitConfig(lanes=32, head_dim=32, slots=32, heads=1, kv_heads=1)
    rows = np.random.default_rng(1).integers(-128, 128, (3, 2, 1, 32)).astype(np.int8)
    latencies = {}
    for normaliser in Normaliser:
        settings = LayerSettings.create(1, 32, normaliser=normaliser)
        operations = []
        for token in range(2):
            job = Job(n=token + 1, head_dim=32, slot=token, position=token, normaliser=normaliser)
            operations += [Step(job, *rows[:, token]), WaitIdle()]
        results = simulate(config, Program.from_layers(operations, {0: settings}))
        latencies[normaliser.name.lower()] = results.steps[1].latency
    return latencies


def _speed(trace: Trace) -> float:
    """Simulated cycles per second of a warm build at P = 16: a whole layer of the trace, start-up included."""
    _, heads, tokens, head_dim = trace.q.shape
    lanes = 16
    config = UnitConfig(lanes=lanes, head_dim=head_dim, slots=max(2, tokens), heads=heads, kv_heads=trace.k.shape[1])
    settings = LayerSettings.create(heads, head_dim, kv_heads=trace.k.shape[1])
    job = {"head_dim": head_dim, "normaliser": Normaliser.RMS_HEAD}
    steps = [
        Step(Job(n=t + 1, slot=t, position=t, **job), trace.k[0][:, t], trace.v[0][:, t], trace.q[0][:, t])
        for t in range(tokens)
    ]
    program = Program.from_layers(steps, {0: settings})
    simulate(config, Program.from_layers(steps[:1], {0: settings}))
    started = time.perf_counter()
    cycles = simulate(config, program).total_cycles
    return cycles / (time.perf_counter() - started)


def _print(measurements: list[Measurement], latencies: dict[str, int], speed: float) -> bool:
    console = Console()
    table = Table(title=f"Array utilisation: {HEADS} heads, d = 64, {STEPS} steps a layer, normaliser rms")
    for heading in ("mode", "P", "n", "roofline", "cycles", "utilisation", "bound", ""):
        table.add_column(heading, justify="left" if heading == "mode" else "right")
    for item in measurements:
        case = item.case
        bound = "" if case.bound is None else f"{case.bound:.2f}"
        row = (case.name, str(case.lanes), str(case.n), str(item.beats), str(item.cycles), f"{item.utilisation:.4f}")
        table.add_row(*row, bound, "ok" if item.met else "missed")
    console.print(table)
    bound = 40
    for name, cycles in latencies.items():
        verdict = "ok" if cycles <= bound else "missed"
        console.print(f"smallest step (1 head, d = P = 32, n = 2), {name}: {cycles} cycles, at most {bound}: {verdict}")
    console.print(f"simulation at P = 16, bus checks on: {speed:,.0f} cycles/s")
    return all(item.met for item in measurements) and max(latencies.values()) <= bound


def main() -> int:
    """Measure and print; exit code 1 if a bound is missed. Speed is printed only: it depends on the machine."""
    parser = argparse.ArgumentParser(prog="python -m reluctant.sim.benchmark", description=__doc__)
    parser.add_argument("--trace", type=Path, help="trace to take rows from (the bundled one)")
    arguments = parser.parse_args()
    trace = load_trace(arguments.trace or Path(str(files("reluctant") / "data" / "demo.npz")))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        measurements = list(pool.map(measure, [trace] * len(CASES), CASES))
    return 0 if _print(measurements, smallest_step(), _speed(trace)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
