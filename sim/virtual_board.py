"""A board without a board: the Verilog of a linked system in Verilator, its serial line a pseudo terminal."""

import re
import subprocess
from contextlib import suppress
from dataclasses import astuple, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from reluctant.hdl.link_config import LinkConfig

from .build import BuildError, cached_build, require_tools, tool_versions, verilate

__all__ = ["Faults", "VirtualBoard"]

SOURCE = Path(__file__).with_suffix(".cpp")
OPTIONS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--output-split", "10000", "-Wno-fatal", "-Wno-lint")
MAKE_OPTIONS = ("CFG_CXXFLAGS_PCH_I=-include", "CFG_GCH_IF_CLANG=", "OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2")
END_SECONDS = 10
"""For the simulator to end once it was told to."""


@dataclass(frozen=True)
class Faults:
    """What happens to bytes on the line, in each direction.

    Attributes
    ----------
    drop, flip, duplicate
        Parts of one: bytes that get lost, have a bit changed, or come twice.
    seed
        Of the random draws.
    """

    drop: float = 0.0
    flip: float = 0.0
    duplicate: float = 0.0
    seed: int = 0


class VirtualBoard:
    """Runs until it is closed; a context manager.

    The line has the link's bit rate in simulated time, whatever rate the host opens the terminal with. Simulated time
    runs as fast as it can, slower while the host is silent.

    Parameters
    ----------
    verilog
        With a module ``top`` whose ports are clk, rst, rx, tx (unit_clk and unit_rst too, if it has them).
    link
        What the device was built with.
    faults
        Of the line.
    top
        Name of the module.

    Attributes
    ----------
    port
        Path of the terminal that the host opens. Its bit rate does not matter.

    Raises
    ------
    BuildError
        If a tool is missing, or the Verilog does not compile.
    """

    def __init__(
        self, verilog: str, link: LinkConfig, *, faults: Faults = Faults(), top: str = "sparse_attention_linked_system"
    ):
        arguments = [link.clock_hz, link.baud, *astuple(faults)]
        command = [str(_compile(verilog, top) / "board"), *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.port = self._process.stdout.readline().decode().strip()
        if not self.port:
            self.close()
            raise BuildError(f"the simulator ended at once, with exit code {self._process.returncode}")

    def reset(self) -> None:
        """Reset the device, in the middle of whatever it does."""
        self._process.stdin.write(b"\n")
        self._process.stdout.readline()

    def wait(self, seconds: float) -> bool:
        """Give the board so many seconds; whether it still runs."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is None

    def close(self) -> None:
        """End the simulation; calling it twice does no harm."""
        if not self._process.stdin.closed:
            self._process.stdin.close()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _compile(verilog: str, top: str) -> Path:
    """Folder of the executable, from the cache or made now."""
    require_tools("verilator")
    plan = {
        "top": top,
        "options": [*OPTIONS, *MAKE_OPTIONS],
        "versions": tool_versions("verilator"),
        "verilog": sha256(verilog.encode()).hexdigest(),
        "source": sha256(SOURCE.read_bytes()).hexdigest(),
    }

    def make(work: Path) -> None:
        (work / "board.v").write_text(verilog)
        unit_clock = ["-CFLAGS", "-DUNIT_CLOCK"] if re.search(r"input (wire )?unit_clk\b", verilog) else []
        arguments = ["--cc", "--exe", *OPTIONS, *unit_clock, "--top-module", top, "--prefix", "Vboard", "-o", "board"]
        runtime = {name: value for name, value in plan.items() if name in ("options", "versions")}
        verilate(work, [*arguments, "--Mdir", ".", str(SOURCE), "./board.v"], "Vboard", MAKE_OPTIONS, runtime)

    return cached_build("board", plan, make)
