"""Size and speed of the attention unit on ECP5-85F: ``python -m reluctant.boards.unit_timing [PRESET ...]``.

The unit alone, without AXI and scheduler, its ports behind shift registers because they are more than the chip has
pins. Needs the packages of the extra ``boards``; takes minutes a preset.
"""

import sys

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from reluctant.hdl.attention_unit import AttentionUnit
from reluctant.hdl.config import UnitConfig

from .core_timing import measure
from .presets import preset

__all__ = ["UnitAlone"]

TARGET_MHZ = "130"
"""What the place-and-route tool aims at, a little more than the board's clock."""


class UnitAlone(wiring.Component):
    """The unit behind shift registers: ``i`` moves into its inputs, ``o`` out of its outputs, taken at ``load``."""

    def __init__(self, config: UnitConfig):
        self.config = config
        super().__init__({"i": In(1), "load": In(1), "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = AttentionUnit(self.config)
        leaves = [(member.flow, value) for _, member, value in unit.signature.flatten(unit)]
        inputs = Cat(value for flow, value in leaves if flow == In)
        outputs = Cat(value for flow, value in leaves if flow == Out)
        shift_in = Signal(len(inputs), reset_less=True)
        shift_out = Signal(len(outputs), reset_less=True)
        load = Signal(reset_less=True)
        m.d.sync += [load.eq(self.load), shift_in.eq(Cat(self.i, shift_in)), shift_out.eq(shift_out >> 1)]
        with m.If(load):
            m.d.sync += shift_out.eq(outputs)
        m.d.comb += [inputs.eq(shift_in), self.o.eq(shift_out[0])]
        return m


def main() -> None:
    """Measure and print."""
    for name in sys.argv[1:] or ["ulx3s-85f"]:
        top = UnitAlone(preset(name).unit)
        numbers = measure(top, "ecp5", seeds=1, technology="ecp5", options=("--freq", TARGET_MHZ))
        print(f"{name:12}", *(f"{key} {value:,}" for key, value in numbers.items()), flush=True)


if __name__ == "__main__":
    main()
