"""Start a compiled simulation, and say why it failed."""

import logging
import shutil
from pathlib import Path

from .build import Build

__all__ = ["FAILURE_FILE", "SimulationError", "failure", "launch"]

FAILURE_FILE = "failure.txt"
"""Where the simulator's process, whose working folder this is in, says why it gave up."""
LOG_FILE = "log.txt"
LOG_LINES = 25


class SimulationError(RuntimeError):
    """A simulation did not do what was asked of it; the message tells why and ends with the log's last lines."""


def launch(
    build: Build,
    module: str,
    folder: Path,
    environment: dict[str, str],
    *,
    stall_seed: int | None = None,
    waves: Path | str | None = None,
) -> Exception | None:
    """Run a cocotb module in a process of its own until it ends; the runner's complaint, if any.

    Parameters
    ----------
    folder
        Its working folder, for its log too.
    stall_seed
        Holds every bus channel back at random, the same way for the same seed.
    waves
        FST file to write; the build must be one with waves.
    """
    from cocotb_tools.runner import get_runner

    runner = get_runner(build.simulator)
    runner.log.setLevel(logging.CRITICAL)
    plusargs = [] if stall_seed is None else [f"+stall_seed={stall_seed & 0xFFFF_FFFF}"]
    failed = None
    try:
        runner.test(
            test_module=module,
            hdl_toplevel="bench",
            hdl_toplevel_lang="verilog",
            build_dir=build.folder,
            test_dir=folder,
            results_xml=str(folder / "results.xml"),
            log_file=folder / LOG_FILE,
            extra_env={
                **environment,
                "COCOTB_LOG_LEVEL": "WARNING",
                "GPI_LOG_LEVEL": "ERROR",
                "PYTHONWARNINGS": "ignore::DeprecationWarning",
            },
            waves=build.waves,
            plusargs=plusargs,
        )
    except (SystemExit, RuntimeError, OSError) as error:
        failed = error
    if waves is not None and (folder / "dump.fst").exists():
        shutil.move(folder / "dump.fst", waves)
    return failed


def failure(folder: Path) -> str:
    """Why a run failed: broken rules first, then the bench's own words, then the log's end."""
    log = (folder / LOG_FILE).read_text(errors="replace") if (folder / LOG_FILE).exists() else ""
    lines = log.strip().splitlines()
    parts = [line for line in lines if line.startswith("protocol violation:")][:5]
    if (folder / FAILURE_FILE).exists():
        parts.append((folder / FAILURE_FILE).read_text())
    else:
        parts.append("the simulator ended without a result; its log ends with:")
        parts += lines[-LOG_LINES:]
    return "\n".join(parts)
