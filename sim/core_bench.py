"""Programs on the RISC-V core's Verilog, in Verilator: what it does, instruction by instruction."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from amaranth.back import verilog

from reluctant.hdl.riscv_core import RiscvCore

from .build import BuildError, cache_folder, require_tools, verilator_root

__all__ = ["WORDS", "Event", "compile_core", "run_core"]

WORDS = 16384
"""Words of the bench's memory, from address 0."""

OPTIONS = ("--binary", "--timing", "-O3", "-Wno-fatal", "-Wno-lint", "--x-assign", "unique", "--x-initial", "unique")
FLAGS = "-std=gnu++20 -fcoroutines -O1"
BENCH = Path(__file__).with_suffix(".sv")


class Event(NamedTuple):
    """A line of the trace: kind ``w``, ``s``, ``r`` or ``t`` as core_bench.sv describes them, and its numbers."""

    kind: str
    numbers: tuple[int, ...]


@lru_cache
def compile_core(*, multiply: bool = False) -> Path:
    """The bench around the core, from the cache or compiled now.

    Raises
    ------
    BuildError
        If a tool is missing or the Verilog does not compile.
    """
    require_tools("verilator")
    source = verilog.convert(RiscvCore(multiply=multiply), name="riscv_core", emit_src=False, strip_internal_attrs=True)
    key = hashlib.sha256("\0".join((source, BENCH.read_text(), *OPTIONS, FLAGS)).encode()).hexdigest()[:24]
    binary = cache_folder() / f"core-{key}" / "core_bench"
    if not binary.exists():
        binary.parent.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="build-") as name:
            work = Path(name)
            (work / "riscv_core.v").write_text(source)
            _verilate(work)
            binary.parent.mkdir(exist_ok=True)
            (work / "made" / "core_bench").replace(binary)
    return binary


def _verilate(work: Path) -> None:
    root = verilator_root()
    command = [
        *("perl", str(root / "bin" / "verilator"), *OPTIONS, "-CFLAGS", FLAGS, "--Mdir", "made", "-o", "core_bench"),
        *("--top-module", "core_bench", str(BENCH), "riscv_core.v"),
    ]
    environment = {**os.environ, "VERILATOR_ROOT": str(root)}
    for name in ("MAKEFLAGS", "MFLAGS"):
        environment.pop(name, None)
    result = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BuildError(
            f"Verilator failed with exit code {result.returncode}:\n{(result.stdout + result.stderr)[-3000:]}"
        )


def run_core(image: Sequence[int], folder: Path, *, multiply: bool = False, **options: int) -> list[Event]:
    """Run the words of ``image`` from address 0; ``options`` are those of core_bench.sv (limit, wait, ...).

    Raises
    ------
    BuildError
        As :func:`compile_core`, and if the bench finds that the core breaks a rule of its bus.
    """
    (folder / "image.hex").write_text("\n".join(f"{word:08x}" for word in image))
    arguments = [f"+{name}={value}" for name, value in options.items()]
    command = [str(compile_core(multiply=multiply)), "+image=image.hex", "+trace=trace.txt", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BuildError(f"the bench ended with {result.returncode}:\n{result.stdout[-1000:]}{result.stderr[-1000:]}")
    lines = map(str.split, (folder / "trace.txt").read_text().splitlines())
    return [Event(kind, tuple(int(number, 16) for number in numbers)) for kind, *numbers in lines]
