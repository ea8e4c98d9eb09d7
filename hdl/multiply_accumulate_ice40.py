"""The multiplier of iCE40 UltraPlus with its accumulator, by instance.

Names and values of parameters: Lattice, DSP Function Usage Guide for iCE40 Devices (FPGA-TN-02007).
"""

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal, signed

__all__ = ["multiply_accumulate"]

OPERAND_BITS = 16
FROM_ACCUMULATOR, FROM_PRODUCT, CARRY_OF_LOWER, REGISTERED = 0, 2, 3, 1
PARAMETERS = {
    "NEG_TRIGGER": 0,
    "A_REG": 1,
    "B_REG": 1,
    "C_REG": 0,
    "D_REG": 0,
    "TOP_8x8_MULT_REG": 0,
    "BOT_8x8_MULT_REG": 0,
    "PIPELINE_16x16_MULT_REG1": 0,
    "PIPELINE_16x16_MULT_REG2": 1,
    "TOPOUTPUT_SELECT": REGISTERED,
    "TOPADDSUB_LOWERINPUT": FROM_PRODUCT,
    "TOPADDSUB_UPPERINPUT": FROM_ACCUMULATOR,
    "TOPADDSUB_CARRYSELECT": CARRY_OF_LOWER,
    "BOTOUTPUT_SELECT": REGISTERED,
    "BOTADDSUB_LOWERINPUT": FROM_PRODUCT,
    "BOTADDSUB_UPPERINPUT": FROM_ACCUMULATOR,
    "BOTADDSUB_CARRYSELECT": 0,
    "MODE_8x8": 0,
    "A_SIGNED": 1,
    "B_SIGNED": 1,
}
WIDE = {name: 2 for name in PARAMETERS if name.endswith(("SELECT", "LOWERINPUT"))}
"""Bits of the parameters that have more than one."""
LOW_INPUTS = (
    *("AHOLD", "BHOLD", "CHOLD", "DHOLD", "IRSTTOP", "IRSTBOT", "ORSTTOP", "ORSTBOT"),
    *("ADDSUBTOP", "ADDSUBBOT", "CI", "ACCUMCI", "SIGNEXTIN"),
)


def multiply_accumulate(component) -> Module:
    """A module with the behaviour of :class:`~reluctant.hdl.multiply_accumulate.MultiplyAccumulate`."""
    m = Module()
    a, b, hold = Signal(signed(OPERAND_BITS)), Signal(signed(OPERAND_BITS)), Signal()
    m.d.comb += [a.eq(component.a), b.eq(component.b), hold.eq(~(component.add | component.load))]
    m.submodules.cell = Instance(
        "SB_MAC16",
        *(("p", name, Const(value, WIDE.get(name, 1))) for name, value in PARAMETERS.items()),
        *(("i", name, Const(0, 1)) for name in LOW_INPUTS),
        ("i", "CLK", ClockSignal()),
        ("i", "CE", Const(1, 1)),
        ("i", "A", a),
        ("i", "B", b),
        ("i", "C", component.c[OPERAND_BITS:]),
        ("i", "D", component.c[:OPERAND_BITS]),
        *(("i", name, component.load) for name in ("OLOADTOP", "OLOADBOT")),
        *(("i", name, hold) for name in ("OHOLDTOP", "OHOLDBOT")),
        ("o", "O", component.o),
    )
    return m
