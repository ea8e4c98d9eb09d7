"""What a command does, once its options are read."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from .errors import UserError

__all__ = ["Outputs", "Request", "run_trace"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A trace to simulate, in the words of the command line; ``choices`` as in :class:`reluctant.steps.Scenario`."""

    trace: Path
    preset: str = "default"
    config: Path | None = None
    settings: tuple[str, ...] = ()
    layers: str | None = None
    tokens: int | None = None
    mask: str | None = None
    choices: dict = field(default_factory=dict)
    simulator: str = "verilator"
    stalls: int | None = None
    waves: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What to write: the unit's folder, the report, the unit's answers, the picture."""

    unit: Path | None = None
    report: Path | None = None
    dump: Path | None = None
    plot: Path | None = None


def run_trace(request: Request, outputs: Outputs) -> dict:
    """Simulate, compare, print the table, write what was asked for; gives the report.

    Raises
    ------
    UserError
        If the request cannot be run.
    """
    from .runs import Simulator, require_packages

    require_packages()
    choice, trace, scenario, config = _prepare(request)
    from reluctant.hdl.verilog import to_verilog

    if outputs.unit is not None:
        from .generate import generate

        verilog = generate(config, outputs.unit, preset=choice.preset)
    else:
        verilog = to_verilog(config)
    simulator = Simulator(verilog, request.simulator, request.stalls, request.waves)
    runs = _run(trace, scenario, config, simulator)
    source = {
        "trace": request.trace.name,
        "preset": choice.preset,
        "simulator": request.simulator,
        "stall_seed": request.stalls,
    }
    return _write(runs, config, scenario, source, outputs)


def _prepare(request: Request):
    """(choice, trace, scenario, sized configuration), all checked."""
    from reluctant.golden.trace import TraceError, load_trace

    from .configuration import choose, fit
    from .steps import check_build, layer_settings, select

    choice = choose(request.preset, request.config, request.settings)
    try:
        trace = load_trace(request.trace)
    except TraceError as error:
        raise UserError(str(error)) from None
    scenario = select(trace, request.layers, request.tokens, request.mask, **request.choices)
    if request.waves is not None and len(scenario.layers) > 1:
        raise UserError(f"--waves {request.waves}: waves are of one layer: add --layers {scenario.layers[0]}")
    config = fit(choice, heads=trace.heads, kv_heads=trace.kv_heads, head_dim=trace.head_dim, tokens=scenario.tokens)
    check_build(config, scenario)
    for layer in scenario.layers:
        layer_settings(trace, layer, scenario)
    return choice, trace, scenario, config


def _run(trace, scenario, config, simulator):
    """Run under a progress bar on the standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from .runs import run_layers

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("compiling the unit (once)", total=len(scenario.layers))
        simulator.compile()
        progress.update(task, description="layers")
        return run_layers(trace, scenario, config, simulator, lambda: progress.advance(task))


def _write(runs, config, scenario, source: dict, outputs: Outputs) -> dict:
    from .report import build_report, write_report
    from .runs import write_dump
    from .tables import print_report

    report = build_report([run.report for run in runs], config, scenario, source)
    print_report(report)
    if outputs.report is not None:
        write_report(report, outputs.report)
    if outputs.dump is not None:
        write_dump(outputs.dump, runs, scenario)
    if outputs.plot is not None:
        from .plot import write_plot

        write_plot(report, outputs.plot)
    return report
