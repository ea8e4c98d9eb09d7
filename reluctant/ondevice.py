"""``reluctant ondevice``: golden vectors and more on a device at a serial port."""

import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluctant.golden.errors import UserError

from .options import ConfigFile, Settings

if TYPE_CHECKING:
    from .device import Device, DeviceRequest
    from .device_checks import Check
    from .device_session import Session

__all__ = ["DeviceRun", "device_report", "ondevice", "run_device"]

OK, FAILED, LOST, INTERRUPTED = 0, 1, 2, 130
PRINTED_WIDTH = 110


def ondevice(
    port: Annotated[
        str | None, typer.Option("--port", metavar="PORT", help="Serial port, such as /dev/ttyUSB0.")
    ] = None,
    baud: Annotated[int | None, typer.Option(min=1, help="Bit rate. [default: those of all boards are tried]")] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", metavar="NAME", help="What was built. [default: the device's name]")
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    build: Annotated[
        Path | None, typer.Option("--build", metavar="DIR", help="What was built: a folder of build or generate.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Checks whose name begins so: see --list.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 1,
    minutes: Annotated[float, typer.Option("--minutes", min=0, help="How long random steps run at the end.")] = 0.1,
    report: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write all numbers.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE.xml", help="Write what passed, for CI servers.")] = None,
    list_checks: Annotated[bool, typer.Option("--list", help="Print the names of the checks, do nothing.")] = False,
) -> int:
    """Check a board over its serial port: every bit of its answers against the integer model.

    Registers, memories, every mode, normaliser, mask and KV policy that the build has, gating, counters, errors,
    restarts, then random steps. A check that needs what was not built is skipped. Ctrl-C ends it; files are written
    all the same. Exit code: 0 if all is equal, 1 if a check failed, 2 for wrong use or a device that is not there.

    \b
    Examples:
      reluctant ondevice --port /dev/ttyUSB0 --junit device.xml --report device.json
      reluctant ondevice --port /dev/ttyUSB0 --only soak --minutes 60
    """
    from .device_checks import all_checks

    if list_checks:
        print("\n".join(check.name for check in all_checks()))
        return OK
    from .runs import require_packages

    require_packages(simulation=False, boards=True)
    from .device import DeviceRequest
    from .device_port import serial_ports

    if port is None:
        raise UserError(f"--port PORT is needed: {serial_ports()}")
    request = DeviceRequest(
        port=port, baud=baud, preset=preset, config=config, settings=tuple(settings or ()), build=build
    )
    run = DeviceRun(request=request, checks=_select(all_checks(), only), seed=seed, minutes=minutes)
    return run_device(run, report, junit)


def _select(checks: "tuple[Check, ...]", only: str | None) -> "list[Check]":
    if only is None:
        return list(checks)
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if not name or not any(check.name.startswith(name) for check in checks):
            groups = ", ".join(dict.fromkeys(check.group for check in checks))
            raise UserError(f"--only {only}: no check begins with {name!r}: {groups} are groups; --list shows all")
    return [check for check in checks if check.name.startswith(tuple(names))]


@dataclass(frozen=True, kw_only=True)
class DeviceRun:
    """What to run, on which device."""

    request: "DeviceRequest"
    checks: "list[Check]"
    seed: int = 1
    minutes: float = 0.0


def run_device(run: DeviceRun, report: Path | None = None, junit: Path | None = None) -> int:
    """Connect, run the checks, print the table, write the files; gives the exit code.

    Raises
    ------
    UserError
        If the device is not there, or a file cannot be written.
    """
    from rich.console import Console

    from .device import connect
    from .device_checks import Bench
    from .device_session import run_checks
    from .device_tables import print_session
    from .junit import write_junit
    from .report import write_report

    device = connect(run.request)
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=PRINTED_WIDTH)
    console.print(_title(device, run), markup=False)
    with device.transport, _progress(len(run.checks)) as watch:
        bench = Bench(device.system, run.seed, device.firmware, run.minutes, watch.note)
        session = run_checks(bench, run.checks, watch.begin, watch.done)
        link = device.link()
    print_session(console, session, link)
    whole = device_report(device, bench, session, run, link)
    if report is not None:
        write_report(whole, report)
    if junit is not None:
        properties = {name: whole[name] for name in ("version", "preset", "port", "seed", "minutes")}
        properties |= {"hash": whole["configuration"]["scheduler"]["hash"], **whole["link"]}
        write_junit(session, properties, junit)
    if session.lost is not None:
        raise UserError(session.lost)
    if session.interrupted:
        return INTERRUPTED
    return FAILED if session.failed else OK


def _title(device: "Device", run: DeviceRun) -> str:
    identity, unit = device.identity, device.system.config.unit
    return (
        f"{identity.name} at {run.request.port}: configuration {identity.config_hash:08x}, {unit.lanes} lanes, "
        f"{unit.heads} heads on {unit.kv_heads} KV heads of {unit.head_dim}, {unit.slots} slots, "
        f"{identity.clock_hz / 1e6:g} MHz; seed {run.seed}"
    )


class _Watch:
    """A progress bar on the standard error, if that is a terminal."""

    def __init__(self, begin: Callable, note: Callable, done: Callable):
        self.begin, self.note, self.done = begin, note, done


@contextmanager
def _progress(total: int):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(file=sys.stderr, highlight=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("checks", total=total)

        def done(outcome) -> None:
            progress.advance(task)
            if outcome.result == "failed" and console.is_terminal:
                progress.console.print(f"failed: {outcome.check.name}", markup=False)

        yield _Watch(
            begin=lambda check: progress.update(task, description=check.name),
            note=lambda text: progress.update(task, description=text),
            done=done,
        )


def device_report(device: "Device", bench, session: "Session", run: DeviceRun, link: dict) -> dict:
    """What ``reluctant simulate`` reports, a layer for each check that ran workloads, and what became of all checks."""
    from .device_checks.work import sum_wholes
    from .report import build_report

    worked = [outcome for outcome in session.outcomes if outcome.work.layer]
    layers = [
        {"layer": number, "check": outcome.check.name, **outcome.work.layer, "scenario": outcome.work.scenario}
        for number, outcome in enumerate(worked)
    ]
    source = {
        "trace": None,
        "preset": device.identity.name,
        "simulator": None,
        "stall_seed": None,
        "port": run.request.port,
        "clock_hz": device.identity.clock_hz,
        "seed": run.seed,
        "minutes": run.minutes,
        "link": link,
    }
    whole = sum_wholes([outcome.work.whole for outcome in worked])
    whole["mismatch_examples"] = []  # each belongs to a layer here
    del whole["steps"]
    whole |= {name: session.count(name) for name in ("passed", "failed", "skipped")}
    whole["checks"] = [
        {
            "name": outcome.check.name,
            "result": outcome.result,
            "message": outcome.message,
            "seconds": round(outcome.seconds, 3),
            "steps": outcome.work.steps,
        }
        for outcome in session.outcomes
    ]
    return build_report(layers, bench.configuration(), _Checks(run.checks), source, whole)


@dataclass(frozen=True)
class _Checks:
    """In the place of a scenario, of which each check has its own."""

    checks: "list[Check]"

    def as_dict(self) -> dict:
        return {"checks": [check.name for check in self.checks]}
