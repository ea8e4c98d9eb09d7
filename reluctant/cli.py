"""The command line. Everything heavy is imported by the command that needs it, so that help is quick."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from reluctant.golden.errors import UserError

from .build import build
from .chat import chat
from .choices import ModeName, NormaliserName, PolicyName, SimulatorName
from .evaluate import evaluate
from .flash import flash
from .import_model import import_model
from .ondevice import ondevice
from .options import (
    ConfigFile,
    Gating,
    MinActive,
    MinMass,
    Normalised,
    Policy,
    Preset,
    Recent,
    Seed,
    Settings,
    Share,
    Sinks,
    Stride,
)
from .prune import prune
from .study import study
from .train import train
from .virtual_board import virtual_board

__all__ = ["app", "main"]

USAGE_ERROR = typer.BadParameter.__base__
"""Every complaint about options and arguments; typer names only this subclass."""
OK, DIFFERS, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
DEMO_TRACE = Path(__file__).parent / "data" / "demo.npz"

app = typer.Typer(
    name="reluctant",
    help="Generate, simulate and measure a sparse attention unit that does no more work than it must.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"reluctant {version('reluctant')}")
        raise typer.Exit()


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def generate(
    preset: Preset = "default",
    config: ConfigFile = None,
    settings: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder to write. [default: out/system, or out/unit]"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the Verilog module and file. [default: sparse_attention_system, or ..._unit]"),
    ] = None,
    no_scheduler: Annotated[bool, typer.Option("--no-scheduler", help="Write the bare unit.")] = False,
) -> None:
    """Write a system's Verilog, firmware, register maps and constraints; with --no-scheduler, a bare unit's.

    The folder gets NAME.v with the firmware in its memory, system_registers and registers (of the unit) as .rdl
    (SystemRDL), .h (C) and .html/, messages.h, firmware.bin, its sources in firmware/, config.json and, for a board's
    preset, a clock constraint. The same settings give the same bytes.

    \b
    Examples:
      reluctant generate --preset ulx3s-85f --set sequences=2 --out out/system
      reluctant generate --no-scheduler --set lanes=32 --out out/unit
    """
    from .configuration import as_system, choose
    from .generate import build_firmware
    from .generate import generate as write

    choice = choose(preset, config, settings or (), system=not no_scheduler)
    out = out or Path("out/unit" if no_scheduler else "out/system")
    if no_scheduler:
        write(choice.config, out, name=name, preset=choice.preset)
        print(f"Unit {choice.config.hash:08x} ({_sizes(choice.config)}) is in {out}:")
    else:
        system, firmware = build_firmware(as_system(choice), memory_given="memory" in choice.system)
        write(system, out, name=name, preset=choice.preset, firmware=firmware)
        print(f"System {system.hash:08x} ({_sizes(system.unit)}; firmware {len(firmware.image):,} bytes) is in {out}:")
    for path in sorted(out.iterdir()):
        print(f"  {path.name}{_inside(path)}")


def _inside(path: Path) -> str:
    """What to look at in a folder."""
    return "/index.html" if path.suffix == ".html" else "/" if path.is_dir() else ""


def _sizes(config) -> str:
    return (
        f"{config.lanes} lanes, {config.heads} heads on {config.kv_heads} KV heads of {config.head_dim}, "
        f"{config.slots} slots"
    )


@app.command()
def simulate(
    trace: Annotated[
        Path, typer.Argument(metavar="TRACE.npz", help="int8 q, k, v: (layers, heads, tokens, head_dim).")
    ],
    preset: Preset = "default",
    config: ConfigFile = None,
    settings: Settings = None,
    layers: Annotated[str | None, typer.Option(metavar="1,4", help="Layers to run, from 0. [default: all]")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens of each layer. [default: all]")] = None,
    mode: Annotated[ModeName, typer.Option(help="How scores become weights.")] = ModeName.RELU,
    normaliser: Annotated[NormaliserName, typer.Option(help="What becomes of contexts.")] = NormaliserName.RMS,
    theta: Annotated[int | None, typer.Option(help="Threshold of all heads. [default: the trace's, or 0]")] = None,
    mask: Annotated[
        str | None, typer.Option(metavar="1,5|FILE.json", help="Heads that do not run: in all layers, or see prune.")
    ] = None,
    policy: Policy = PolicyName.REFUSE,
    budget: Annotated[int | None, typer.Option(help="Rows that a layer keeps. [default: all tokens]")] = None,
    sinks: Sinks = None,
    recent: Recent = None,
    stride: Stride = None,
    share: Share = None,
    seed: Seed = None,
    normalised: Normalised = None,
    gating: Gating = None,
    no_scheduler: Annotated[bool, typer.Option("--no-scheduler", help="Run the bare unit, layer by layer.")] = False,
    min_active: MinActive = 0,
    min_mass: MinMass = 0,
    simulator: Annotated[
        SimulatorName, typer.Option(help="Verilator is fast, Icarus sees X.")
    ] = SimulatorName.VERILATOR,
    stalls: Annotated[int | None, typer.Option(metavar="SEED", help="Hold the buses back at random.")] = None,
    waves: Annotated[Path | None, typer.Option(metavar="FILE.fst", help="Waveforms.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write all numbers.")] = None,
    dump: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="Write what the unit answered.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw rows read and cycles.")] = None,
) -> int:
    """Run a trace through the system's Verilog, firmware included, and compare every bit with the integer model.

    All layers are one sequence, token by token; each token is appended, then attends to the rows that the policy
    kept. The system is sized to the trace unless a setting says otherwise. Exit code: 0 if all is equal, 1 if
    anything differs, 2 for wrong use.

    \b
    Examples:
      reluctant simulate trace.npz --layers 1,4 --tokens 96 --report report.json
      reluctant simulate trace.npz --policy h2o --budget 64 --gating 4
      reluctant simulate trace.npz --no-scheduler --mode hybrid --min-active 4 --plot rows.png
    """
    from .commands import Outputs, Request, run_trace
    from .policy_options import PolicyOptions

    request = Request(
        trace=trace,
        preset=preset,
        config=config,
        settings=tuple(settings or ()),
        layers=layers,
        tokens=tokens,
        mask=mask,
        choices={
            "mode": mode,
            "normaliser": normaliser,
            "theta": theta,
            "min_active": min_active,
            "min_mass": min_mass,
        },
        policy=PolicyOptions(
            policy=policy.value,
            budget=budget,
            sinks=sinks,
            recent=recent,
            stride=stride,
            share=share,
            seed=seed,
            normalised=normalised,
            gating=gating,
        ),
        scheduler=not no_scheduler,
        simulator=simulator.value,
        stalls=stalls,
        waves=waves,
    )
    return DIFFERS if run_trace(request, Outputs(report=report, dump=dump, plot=plot))["mismatches"] else OK


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")] = Path("out/demo"),
) -> int:
    """Do the main job once: generate the default system, simulate the bundled trace, compare, report, plot.

    \b
    Example:
      reluctant demo
    """
    from .commands import Outputs, Request, run_trace

    request = Request(trace=DEMO_TRACE)
    outputs = Outputs(
        design=out / "system", report=out / "report.json", dump=out / "answers.npz", plot=out / "rows.png"
    )
    report = run_trace(request, outputs)
    print("Files:")
    for path, what in (
        (outputs.design, "Verilog, firmware, register maps, C headers, config.json"),
        (outputs.report, "every number, by layer and head"),
        (outputs.dump, "what the unit answered"),
        (outputs.plot, "rows read and cycles, as a picture"),
    ):
        print(f"  {path}  {what}")
    return DIFFERS if report["mismatches"] else OK


@app.command()
def presets() -> None:
    """List the presets and their sizes.

    \b
    Example:
      reluctant presets
    """
    from .tables import print_presets

    print_presets()


app.command()(build)
app.command()(flash)
app.command()(ondevice)
app.command("virtual-board")(virtual_board)
app.command()(train)
app.command()(evaluate)
app.command()(prune)
app.command("import")(import_model)
app.command()(chat)
app.command()(study)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and give the exit code: 0, 1 (the unit differs or failed), 2 (wrong use)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        return app(args=arguments, prog_name="reluctant", standalone_mode=False) or OK
    except USAGE_ERROR as error:
        return _fail(_usage(error), WRONG_USE)
    except UserError as error:
        return _fail(str(error), WRONG_USE)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    except RuntimeError as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {"BuildError", "FirmwareError"}:
            return _fail(str(error), WRONG_USE)
        if names & {"SimulationError", "TransportError", "HostError", "PlacementError", "FlashError"}:
            return _fail(str(error), DIFFERS)
        raise


def _usage(error) -> str:
    command = getattr(error.ctx, "command_path", "reluctant") if error.ctx else "reluctant"
    return f"{error.format_message().rstrip('.')}: see '{command} --help'"


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
