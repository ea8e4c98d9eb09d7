"""What a command does, once its options are read."""

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reluctant.golden.errors import UserError

from .policy_options import PolicyOptions

__all__ = ["Outputs", "Request", "run_trace"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A trace to simulate, in the words of the command line; ``choices`` as in :class:`reluctant.steps.Scenario`.

    ``scheduler`` False: the bare unit runs, each layer for itself.
    """

    trace: Path
    preset: str = "default"
    config: Path | None = None
    settings: tuple[str, ...] = ()
    layers: str | None = None
    tokens: int | None = None
    mask: str | None = None
    choices: dict = field(default_factory=dict)
    policy: PolicyOptions = field(default_factory=PolicyOptions)
    scheduler: bool = True
    simulator: str = "verilator"
    stalls: int | None = None
    waves: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What to write: the folder of the unit or system, the report, the unit's answers, the picture."""

    design: Path | None = None
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
    from .runs import require_packages

    require_packages(firmware=request.scheduler)
    choice, trace, scenario, config = _prepare(request)
    run = _run_system if request.scheduler else _run_layers
    runs, configuration, whole = run(request, choice, trace, scenario, config, outputs.design)
    source = {
        "trace": request.trace.name,
        "preset": choice.preset,
        "simulator": request.simulator,
        "stall_seed": request.stalls,
    }
    return _write(runs, configuration, scenario, source, whole, outputs)


def _prepare(request: Request):
    """(choice, trace, scenario, sized configuration of the system or of the bare unit), all checked."""
    from reluctant.golden.trace import TraceError, load_trace

    from .configuration import choose, fit, fit_system
    from .steps import check_build, layer_settings, select

    if not request.scheduler and request.policy.given:
        raise UserError(f"{request.policy.given[0]}: the bare unit has no policy: leave out --no-scheduler")
    choice = choose(request.preset, request.config, request.settings, system=request.scheduler)
    try:
        trace = load_trace(request.trace)
    except TraceError as error:
        raise UserError(str(error)) from None
    policy = request.policy if request.scheduler else None
    scenario = select(trace, request.layers, request.tokens, request.mask, policy, **request.choices)
    if request.waves is not None and len(scenario.layers) > 1 and not request.scheduler:
        raise UserError(f"--waves {request.waves}: waves are of one layer: add --layers {scenario.layers[0]}")
    sizes = {"heads": trace.heads, "kv_heads": trace.kv_heads, "head_dim": trace.head_dim}
    if request.scheduler:
        config = fit_system(choice, layers=len(scenario.layers), budget=scenario.policy.budget, **sizes)
    else:
        config = fit(choice, slots=scenario.tokens, **sizes)
    check_build(config.unit if request.scheduler else config, scenario)
    for layer in scenario.layers:
        layer_settings(trace, layer, scenario)
    return choice, trace, scenario, config


def _run_layers(request: Request, choice, trace, scenario, config, folder: Path | None):
    """Each layer through the bare unit: (runs, configuration, numbers of the whole run)."""
    from reluctant.hdl.verilog import to_verilog

    from . import runs
    from .generate import generate

    verilog = to_verilog(config) if folder is None else generate(config, folder, preset=choice.preset)
    simulator = runs.Simulator(verilog, request.simulator, request.stalls, request.waves)
    with _progress(len(scenario.layers), "layers") as start:
        simulator.compile()
        done = runs.run_layers(trace, scenario, config, simulator, start())
    return done, {**config.as_dict(), "hash": f"{config.hash:08x}"}, {}


def _run_system(request: Request, choice, trace, scenario, config, folder: Path | None):
    """All layers through the system: (runs, configuration, numbers of the whole run)."""
    from . import system_runs
    from .generate import build_firmware, generate

    with _progress(len(scenario.layers) * scenario.tokens, "steps") as start:
        config, firmware = build_firmware(config, memory_given="memory" in choice.system)
        if folder is None:
            verilog = system_runs.system_verilog(config, firmware.image)
        else:
            verilog = generate(config, folder, preset=choice.preset, firmware=firmware)
        simulator = system_runs.SystemSimulator(verilog, request.simulator, request.stalls, request.waves)
        simulator.compile()
        runs, whole = system_runs.run_system(trace, scenario, config, simulator, start())
    whole["firmware"] |= {"text_bytes": firmware.text_bytes, "stack_bytes": firmware.stack_bytes}
    unit, scheduler = config.unit, config.as_dict()
    del scheduler["unit"]
    scheduler["hash"] = f"{config.hash:08x}"
    return runs, {**unit.as_dict(), "hash": f"{unit.hash:08x}", "scheduler": scheduler}, whole


@contextmanager
def _progress(total: int, what: str):
    """A progress bar on the standard error: gives a function that ends the compiling and gives one that advances."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("compiling (once)", total=total)

        def start():
            progress.update(task, description=what)
            return lambda: progress.advance(task)

        yield start


def _write(runs, configuration: dict, scenario, source: dict, whole: dict, outputs: Outputs) -> dict:
    from .report import build_report, write_report
    from .runs import write_dump
    from .tables import print_report

    report = build_report([run.report for run in runs], configuration, scenario, source, whole)
    print_report(report)
    if outputs.report is not None:
        write_report(report, outputs.report)
    if outputs.dump is not None:
        write_dump(outputs.dump, runs, scenario)
    if outputs.plot is not None:
        from .plot import write_plot

        write_plot(report, outputs.plot)
    return report
